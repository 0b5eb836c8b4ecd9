// Every reference base and adapter against PyTorch and PEFT: log-probabilities of the prompt and greedy continuations, each sequence
// alone, and all sequences of all adapters of a base together in one batch.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import type { ServingAdapter } from '../../src/adapters/types.js';
import { collect, FIXTURES, request, tinyModel } from '../helpers/tiny-model.js';

const TOLERANCE = 1e-3;
const BASES = readdirSync(join(FIXTURES, 'bases')).filter((name) => name !== 'gemma3-text');

interface Expected {
  readonly input_ids: readonly (readonly number[])[];
  readonly attention_mask: readonly (readonly number[])[];
  readonly token_logprobs: readonly (readonly number[])[];
  readonly greedy_tokens: readonly (readonly number[])[];
}

interface Case {
  readonly label: string;
  readonly adapter: ServingAdapter | null;
  readonly prompt: readonly number[];
  readonly logprobs: readonly number[];
  readonly greedy: readonly number[];
}

function cases(label: string, adapter: ServingAdapter | null, folder: string): Case[] {
  const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as Expected;
  return expected.input_ids.map((ids, i) => ({
    label: `${label}[${i}]`,
    adapter,
    prompt: ids.filter((_, j) => expected.attention_mask[i]![j] === 1),
    logprobs: expected.token_logprobs[i]!,
    greedy: expected.greedy_tokens[i]!,
  }));
}

function check({ label, logprobs, greedy }: Case, result: Awaited<ReturnType<typeof collect>>): void {
  const got = result.promptLogprobs!.slice(1).map((value) => value!);
  assert.equal(got.length, logprobs.length, label);
  const worst = Math.max(0, ...got.map((value, i) => Math.abs(value - logprobs[i]!)));
  assert(worst <= TOLERANCE, `${label}: log-probabilities differ by ${worst}`);
  assert.deepEqual(result.tokens, greedy, label);
}

/** What PEFT writes and the product refuses by name (tests of the reader say with which message). */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  'llama-tied': [
    'lntuning',
    'lora-embed-lm-head-target',
    'lora-embed-saved',
    'lora-embed-saved-tied',
    'lora-lm-head-saved',
    'lora-norms-saved',
    'lora-tokens',
  ],
  'llama-untied': ['lora-embed-lm-head-target', 'lora-lm-head-saved'],
  qwen2: ['lora-lm-head-saved', 'lora-norms-saved', 'lora-tokens'],
};

for (const base of BASES) {
  test(`${base}: logits equal PyTorch's and PEFT's, alone and mixed`, async () => {
    const model = await tinyModel(base);
    const engine = await model.open({ slots: 8 });
    const baseline = engine.liveHandles();
    const all = cases(base, null, join(FIXTURES, 'bases', base));
    const folder = join(FIXTURES, 'adapters', base);
    const refused: string[] = [];
    for (const name of existsSync(folder) ? readdirSync(folder).sort() : []) {
      try {
        all.push(...cases(`${base}/${name}`, await model.adapter(name, engine), join(folder, name)));
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
        refused.push(name);
      }
    }
    for (const item of all)
      check(
        item,
        await collect(
          engine.engine.generate(request(item.prompt, { adapter: item.adapter, promptLogprobs: true })),
        ),
      );

    const mixed = await Promise.all(
      all.map(({ prompt, adapter }) => collect(engine.engine.generate(request(prompt, { adapter })))),
    );
    mixed.forEach((result, i) => assert.deepEqual(result.tokens, all[i]!.greedy, `${all[i]!.label} mixed`));
    assert.deepEqual(refused, REFUSED[base] ?? [], 'adapters that are refused');
    await engine.dispose();
    assert(baseline > 0);
    assert.equal(engine.liveHandles(), 0, 'native objects left behind');
    model.dispose();
  });
}
