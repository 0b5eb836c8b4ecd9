// How a GGUF's `tokenizer.ggml.pre` cuts text before byte-pair encoding, as tokenizer.json spells it. Only those of which the
// original tokenizer.json is known exactly; a wrong pattern gives other tokens than the model was trained on, so the rest are refused.

import { GPT2_PATTERN, isolate } from './text-splitter.js';

export interface PreTokenizer {
  /** Cut at each in turn, then bytes. */
  readonly patterns: readonly string[];
  readonly normalizer?: 'NFC';
  /** A piece that is a token as a whole is taken so. */
  readonly ignoreMerges?: boolean;
  /** Whether BOS goes in front where the file does not say. */
  readonly addsBos?: boolean;
}

const LLAMA3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const QWEN2 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const QWEN35 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const TEKKEN = `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const LLAMA_BPE: PreTokenizer = { patterns: [LLAMA3], ignoreMerges: true, addsBos: true };
const DIGITS_THEN_GPT2: PreTokenizer = { patterns: ['\\p{N}', GPT2_PATTERN] };
const QWEN: PreTokenizer = { patterns: [QWEN2], normalizer: 'NFC' };

export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map<string, PreTokenizer>([
  ['default', { patterns: ['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2_PATTERN, '\\p{N}+', '[0-9][0-9][0-9]'] }],
  ['gpt-2', { patterns: [GPT2_PATTERN] }],
  ['smollm', DIGITS_THEN_GPT2],
  ['starcoder', DIGITS_THEN_GPT2],
  ['llama-bpe', LLAMA_BPE],
  ['llama3', LLAMA_BPE],
  ['llama-v3', LLAMA_BPE],
  ['smaug-bpe', { patterns: [LLAMA3] }],
  ['qwen2', QWEN],
  ['deepseek-r1-qwen', QWEN],
  ['qwen35', { patterns: [QWEN35], normalizer: 'NFC' }],
  ['tekken', { patterns: [TEKKEN], ignoreMerges: true, addsBos: true }],
]);

/** tokenizer.json's `pre_tokenizer`. */
export function preTokenizerJson({ patterns }: PreTokenizer, addPrefixSpace: boolean): object {
  const bytes = {
    type: 'ByteLevel',
    add_prefix_space: addPrefixSpace,
    trim_offsets: false,
    use_regex: false,
  };
  return { type: 'Sequence', pretokenizers: [...patterns.map(isolate), bytes] };
}
