// Label masks over chat templates of real models: answers are learned as they are served, questions never are, and templates whose answers
// cannot be told from their prompts are refused. The vocabulary is the fixture's, with the template's special tokens.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { tokenizeExample, sidesOf } from '../../src/data/tokenize-example.js';
import { IGNORED, type TokenizedExample } from '../../src/data/types.js';
import { GatewayError } from '../../src/errors.js';
import type { TextTokenizer } from '../../src/tokenizer/types.js';
import { fixtureFiles, fixtureTokenizer, sharedData } from '../helpers/tokenizer-fixture.js';

const folder = join(sharedData, 'templates', 'llama.cpp');
const skip = existsSync(folder) ? false : `${folder} is not there`;

const SPECIAL = /<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]+｜>|\[\/?[A-Z_]+\]|<(?:start|end)_of_turn>|<\/?s>/g;
const ENDS = /eot_id|im_end|\|end\||\|end_of_text|end_of_turn>|<\/s>|return|end▁of▁sentence/;
const MESSAGES = [
  { role: 'user', content: 'Hello?' },
  { role: 'assistant', content: 'I am FINE.' },
  { role: 'user', content: '2+2?' },
  { role: 'assistant', content: 'FOUR' },
];
const OPTIONS = { cutoffLength: 20_000, stage: 'sft', trainOnPrompt: false, maskHistory: false } as const;

/** Templates that open an answer in the prompt otherwise than they render it: mostly with thinking that is dropped later. */
const REFUSED = [
  'Apriel-1.6-15b-Thinker-fixed',
  'Cohere2MoE',
  'CohereForAI-c4ai-command-r7b-12-2024-tool_use',
  'GLM-4.7-Flash',
  'MiniMax-M2',
  'NVIDIA-Nemotron-3-Nano-30B-A3B-BF16',
  'Qwen-QwQ-32B',
  'Spark2.5',
  'deepseek-ai-DeepSeek-R1-Distill-Llama-8B',
  'deepseek-ai-DeepSeek-R1-Distill-Qwen-32B',
  'deepseek-ai-DeepSeek-V3.2',
  'google-gemma-4-31B-it',
  'google-gemma-4-31B-it-interleaved',
  'llama-cpp-deepseek-r1',
];
/** Templates that cannot render a chat without tools, or not here (tokenizer-templates.test.ts). */
const UNRENDERED = [
  'ByteDance-Seed-OSS',
  'CohereForAI-c4ai-command-r-plus-tool_use',
  'NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use',
  'NousResearch-Hermes-3-Llama-3.1-8B-tool_use',
  'fireworks-ai-llama-3-firefunction-v2',
];
/** The learned texts of a few, part by part. */
const LEARNED: Readonly<Record<string, readonly string[]>> = {
  'Qwen-Qwen2.5-7B-Instruct': ['I am FINE.<|im_end|>FOUR<|im_end|>'],
  'Qwen-Qwen3-0.6B': ['<think>\n\n</think>\n\nI am FINE.<|im_end|>', '<think>\n\n</think>\n\nFOUR<|im_end|>'],
  'meta-llama-Llama-3.1-8B-Instruct': ['I am FINE.<|eot_id|>FOUR<|eot_id|>'],
  'mistralai-Mistral-Nemo-Instruct-2407': ['I am FINE.</s>FOUR</s>'],
  'google-gemma-2-2b-it': ['I am FINE.<end_of_turn>FOUR<end_of_turn>'],
  'microsoft-Phi-3.5-mini-instruct': ['I am FINE.<|end|>FOUR<|end|>'],
  'HuggingFaceTB-SmolLM3-3B': ['I am FINE.<|im_end|>FOUR<|im_end|>'],
};

function tokenizerFor(template: string): TextTokenizer {
  const { tokenizerJson, tokenizerConfig } = fixtureFiles();
  const known = tokenizerJson.added_tokens;
  const literals = [...new Set(['<s>', '</s>', ...(template.match(SPECIAL) ?? [])])];
  const added = literals
    .filter((literal) => !known.some(({ content }) => content === literal))
    .map((content, index) => ({ ...known[0]!, content, id: 320 + index }));
  const all = [...known, ...added];
  const ends = all.filter(({ content }) => ENDS.test(content)).map(({ id }) => id);
  return fixtureTokenizer({
    tokenizerJson: { ...tokenizerJson, added_tokens: all },
    tokenizerConfig: { ...tokenizerConfig, bos_token: '<s>', eos_token: '</s>' },
    generationConfig: { eos_token_id: ends },
    chatTemplate: template,
  });
}

function outcomeOf(tokenizer: TextTokenizer): readonly TokenizedExample[] | GatewayError {
  try {
    return tokenizeExample({ kind: 'chat', messages: MESSAGES }, tokenizer, OPTIONS).parts.flatMap(sidesOf);
  } catch (error) {
    if (error instanceof GatewayError) return error;
    throw error;
  }
}

const learnedText = ({ labels }: TokenizedExample, tokenizer: TextTokenizer): string =>
  tokenizer.decode([...labels].filter((label) => label !== IGNORED));

test('each template: answers are learned behind the prompts they are served with', { skip }, () => {
  const files = readdirSync(folder).filter((file) => file.endsWith('.jinja'));
  const refused: string[] = [];
  const unrendered: string[] = [];
  for (const file of files) {
    const name = basename(file, '.jinja');
    const tokenizer = tokenizerFor(readFileSync(join(folder, file), 'utf8'));
    const parts = outcomeOf(tokenizer);
    if (parts instanceof GatewayError) {
      (parts.code === 'unsupported_model' ? refused : unrendered).push(name);
      continue;
    }
    const learned = parts.map((part) => learnedText(part, tokenizer));
    assert.match(learned.join(''), /^[^]*I am FINE\.[^]*FOUR[^]*$/, name);
    assert.doesNotMatch(learned.join(''), /Hello|2\+2/, name);
    if (LEARNED[name] !== undefined) assert.deepEqual(learned, LEARNED[name], name);
    const last = parts.at(-1)!;
    const served = tokenizer.encodeChat(MESSAGES.slice(0, 3));
    assert.deepEqual([...last.tokens.subarray(0, served.length)], served, name);
    const rest = [...last.labels.subarray(served.length)];
    assert.deepEqual(rest, [...last.tokens.subarray(served.length)], `${name}: all behind the prompt counts`);
    if (parts.length === 1) continue;
    const first = tokenizer.encodeChat(MESSAGES.slice(0, 1));
    assert.deepEqual([...parts[0]!.tokens.subarray(0, first.length)], first, name);
  }
  assert.equal(files.length, 70);
  assert.deepEqual(refused.toSorted(), REFUSED.toSorted());
  assert.deepEqual(unrendered.toSorted(), UNRENDERED.toSorted());
});
