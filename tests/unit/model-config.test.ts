// config.json -> Architecture, for every base fixture in the spelling of transformers 4 and of 5, and every refusal by name.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Architecture } from '../../src/model/architecture.js';
import { architectureFromConfig } from '../../src/model/config.js';
import { smallArchitecture } from '../helpers/architecture.js';

const bases = join(import.meta.dirname, '..', 'fixtures', 'bases');

const TINY = smallArchitecture();

/** What each fixture has that TINY has not. */
const FIXTURES: Readonly<Record<string, Partial<Architecture>>> = {
  'llama-tied': {},
  'llama-untied': { tiedHead: false, ropeTheta: 500000 },
  'llama-bias': { qkvBias: true, outputBias: true, mlpBias: true },
  'llama-rope-linear': { ropeScaling: { type: 'linear', factor: 4 } },
  'llama-rope-llama3': {
    ropeTheta: 500000,
    ropeScaling: {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalContextLength: 32,
    },
  },
  'llama-rope-yarn': {
    ropeScaling: {
      type: 'yarn',
      factor: 4,
      originalContextLength: 64,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor: 0.1 * Math.log(4) + 1,
    },
  },
  mistral: { family: 'mistral', tiedHead: false, slidingWindow: 8 },
  qwen2: { family: 'qwen2', qkvBias: true, ropeTheta: 1000000 },
  qwen3: { family: 'qwen3', headDim: 32, qkNorm: true, ropeTheta: 1000000 },
};

function readConfig(base: string, file = 'config.json'): Record<string, unknown> {
  return JSON.parse(readFileSync(join(bases, base, file), 'utf8')) as Record<string, unknown>;
}

function refuses(config: unknown, code: string, message: RegExp): void {
  assert.throws(() => architectureFromConfig(config, 'config.json'), { name: 'GatewayError', code, message });
}

describe('architectureFromConfig', () => {
  it('knows every fixture', () => {
    assert.deepEqual(readdirSync(bases).toSorted(), [...Object.keys(FIXTURES), 'gemma3-text'].toSorted());
  });

  for (const [base, difference] of Object.entries(FIXTURES))
    for (const file of ['config.json', 'config.v4.json'])
      it(`reads ${base}/${file}`, () => {
        assert.deepEqual(architectureFromConfig(readConfig(base, file), file), { ...TINY, ...difference });
      });

  for (const file of ['config.json', 'config.v4.json'])
    it(`refuses gemma3 (${file})`, () => {
      refuses(
        readConfig('gemma3-text', file),
        'unsupported_model',
        /`model_type` "gemma3_text" is not supported/,
      );
    });

  const refusals: readonly [string, Record<string, unknown>, RegExp][] = [
    ['another activation', { hidden_act: 'gelu' }, /`hidden_act` "gelu"/],
    ['partial rotary', { partial_rotary_factor: 0.5 }, /`partial_rotary_factor` 0\.5/],
    ['softcapping', { attn_logit_softcapping: 50 }, /`attn_logit_softcapping` 50/],
    ['experts', { num_local_experts: 8 }, /`num_local_experts` 8/],
    [
      'weights quantized elsewhere',
      { quantization_config: { bits: 4 } },
      /`quantization_config` \{"bits":4\}/,
    ],
    ['another head', { architectures: ['LlamaForSequenceClassification'] }, /`architectures`/],
    ['an unknown rope type', { rope_parameters: { rope_type: 'longrope' } }, /`rope_type` "longrope"/],
    [
      'an old unknown rope type',
      { rope_parameters: null, rope_scaling: { type: 'mrope' } },
      /`type` "mrope"/,
    ],
    [
      'an unknown rope key',
      { rope_parameters: { rope_type: 'linear', factor: 2, mrope_section: [1] } },
      /`mrope_section` \[1\]/,
    ],
    [
      'partial rotary among the rope parameters',
      { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.25 } },
      /`partial_rotary_factor` 0\.25/,
    ],
    [
      'heads that do not divide',
      { num_attention_heads: 5 },
      /5 attention heads cannot share 2 key-value heads/,
    ],
    ['layers without end', { num_hidden_layers: 2 ** 40 }, /1099511627776 layers are more than/],
    ['an odd head', { head_dim: 15 }, /head size 15 is odd/],
  ];
  for (const [what, change, message] of refusals)
    it(`refuses ${what}`, () => {
      refuses({ ...readConfig('llama-tied'), ...change }, 'unsupported_model', message);
    });

  it('refuses values without sense as an invalid file', () => {
    const config = readConfig('llama-tied');
    refuses([], 'invalid_file', /Expected a JSON object, got \[\]/);
    refuses(
      { ...config, hidden_size: 0 },
      'invalid_file',
      /Expected `hidden_size` to be a whole number .*, got 0/,
    );
    refuses({ ...config, rms_norm_eps: 'x' }, 'invalid_file', /Expected `rms_norm_eps` .*, got "x"/);
    refuses({ ...config, vocab_size: null }, 'invalid_file', /Expected `vocab_size` .*, got null/);
    refuses(
      { ...config, rope_parameters: { rope_type: 'linear' } },
      'invalid_file',
      /rope_parameters: Expected `factor` .*, got nothing/,
    );
  });

  it('takes a window that all layers of a qwen2 have, and refuses one that some have', () => {
    const qwen = { ...readConfig('qwen2', 'config.v4.json'), use_sliding_window: true, sliding_window: 16 };
    const windowOf = (change: Record<string, unknown>) =>
      architectureFromConfig({ ...qwen, ...change }, 'config.json').slidingWindow;
    assert.equal(windowOf({ layer_types: ['sliding_attention', 'sliding_attention'] }), 16);
    assert.equal(windowOf({ layer_types: ['full_attention', 'full_attention'] }), null);
    assert.equal(windowOf({ layer_types: null, max_window_layers: 0 }), 16);
    assert.equal(windowOf({ layer_types: null, max_window_layers: 2 }), null);
    refuses(
      { ...qwen, layer_types: ['full_attention', 'sliding_attention'] },
      'unsupported_model',
      /`layer_types` \["full_attention","sliding_attention"\]/,
    );
    refuses(
      { ...qwen, layer_types: null, max_window_layers: 1 },
      'unsupported_model',
      /`max_window_layers` 1/,
    );
  });

  it('fills in what a config leaves out as transformers does', () => {
    const {
      head_dim: _head,
      num_key_value_heads: _kv,
      tie_word_embeddings: _tie,
      ...config
    } = readConfig('llama-tied', 'config.v4.json');
    const { rope_theta: _theta, ...mistral } = readConfig('mistral', 'config.v4.json');
    const arch = architectureFromConfig(config, 'config.json');
    assert.deepEqual(arch, { ...TINY, numKvHeads: 4, tiedHead: false });
    assert.equal(architectureFromConfig({ ...mistral, sliding_window: null }, 'c').slidingWindow, null);
    assert.equal(architectureFromConfig(mistral, 'c').ropeTheta, 10000);
  });
});
