// The tokenizer of the tiny bases in tests/fixtures, its files to vary, and a seeded source of numbers.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createTokenizer } from '../../src/tokenizer/tokenizer.js';
import { type TokenizerFiles } from '../../src/tokenizer/tokenizer-files.js';
import { type TextTokenizer } from '../../src/tokenizer/types.js';

const fixtures = join(import.meta.dirname, '..', 'fixtures');
export const sharedData = join(import.meta.dirname, '..', '..', '..', 'shared', 'data');

export interface TokenizerJson {
  added_tokens: { id: number; content: string; special: boolean }[];
  pre_tokenizer: unknown;
  normalizer: unknown;
  post_processor: unknown;
  decoder: unknown;
  model: { type: string; vocab: Record<string, number>; merges: ([string, string] | string)[] };
}

export interface Expected {
  texts: string[];
  ids: number[][];
  decoded: string[];
  decoded_skip_special: string[];
  chats: { messages: { role: string; content: string }[]; text: string; ids: number[] }[];
}

export function readExpected(): Expected {
  return JSON.parse(readFileSync(join(fixtures, 'tokenizer-expected.json'), 'utf8'));
}

export function fixtureFiles(): TokenizerFiles & { tokenizerJson: TokenizerJson } {
  const read = (name: string) => readFileSync(join(fixtures, 'bases', 'llama-tied', name), 'utf8');
  return {
    tokenizerJson: JSON.parse(read('tokenizer.json')),
    tokenizerConfig: JSON.parse(read('tokenizer_config.json')),
    generationConfig: JSON.parse(read('generation_config.json')),
    chatTemplate: read('chat_template.jinja'),
  };
}

export function fixtureTokenizer(changes: Partial<TokenizerFiles> = {}): TextTokenizer {
  return createTokenizer({ ...fixtureFiles(), ...changes });
}

/** Whole numbers in [0, below): the same ones for the same seed. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
