// One example to tokens with labels: what is learned keeps its token as label, all else is IGNORED.

import { GatewayError, assert } from '../errors.js';
import type { TextTokenizer } from '../tokenizer/types.js';
import { answerTokens, commonPrefixLength } from './answer-tokens.js';
import { type Turn, chatPassages } from './chat-turns.js';
import { type FittedTurn, cutSource, fitTurns, inferLengths } from './truncation.js';
import {
  type ChatExample,
  type Example,
  IGNORED,
  type PreferenceExample,
  type TextExample,
  type TokenizedExample,
  type TokenizedPair,
} from './types.js';

export type Stage = 'sft' | 'pt' | 'dpo';

export interface TokenizingOptions {
  /** Longest part of an example, in tokens; of a pair, the prompt with either answer. At least 2. */
  readonly cutoffLength: number;
  /** sft learns answers of chats, pt all of texts, dpo from preferences. */
  readonly stage: Stage;
  /** Prompts are learned like answers. */
  readonly trainOnPrompt: boolean;
  /** Only the last answer is learned; what does not fit is cut from the beginning. */
  readonly maskHistory: boolean;
}

export interface Tokenized {
  /**
   * Mostly one. A text longer than cutoffLength gives windows, a chat whose template renders earlier turns otherwise once others follow
   * a part for each of them. Parts that nothing is learned from are left out.
   */
  readonly parts: readonly (TokenizedExample | TokenizedPair)[];
  readonly isTruncated: boolean;
  /** Answers to learn that lost their end, or all. */
  readonly numAnswersCut: number;
  /** Labels that count, of a pair on both sides. 0: nothing is learned from this example. */
  readonly numSupervised: number;
}

/**
 * Throws GatewayError invalid_value where the stage does not learn from such an example, or the template refuses it;
 * unsupported_model where the template's answers cannot be told from their prompts, or the base has no token that ends a text.
 */
export function tokenizeExample(
  example: Example,
  tokenizer: TextTokenizer,
  options: TokenizingOptions,
): Tokenized {
  assert(options.cutoffLength >= 2, `a cutoff length of ${options.cutoffLength}`);
  if (options.trainOnPrompt && options.maskHistory)
    throw new GatewayError(
      'invalid_value',
      'train_on_prompt and mask_history exclude each other; turn one off',
      {
        param: 'mask_history',
      },
    );
  if (example.kind === 'chat' && options.stage === 'sft') return tokenizeChat(example, tokenizer, options);
  if (example.kind === 'text' && options.stage === 'pt') return tokenizeText(example, tokenizer, options);
  if (example.kind === 'preference' && options.stage === 'dpo')
    return tokenizePreference(example, tokenizer, options);
  throw new GatewayError('invalid_value', stageProblem(example.kind, options.stage), { param: 'stage' });
}

const STAGE_OF = { chat: 'sft', text: 'pt', preference: 'dpo' } as const;

function stageProblem(kind: Example['kind'], stage: Stage): string {
  return `Stage ${stage} does not learn from ${kind} rows; use stage ${STAGE_OF[kind]}, or another dataset`;
}

function tokenizeChat(
  { messages }: ChatExample,
  tokenizer: TextTokenizer,
  { cutoffLength, trainOnPrompt, maskHistory }: TokenizingOptions,
): Tokenized {
  const passages = chatPassages(messages, tokenizer);
  const kept = maskHistory ? passages.slice(-1).map(onlyLastSupervised) : passages;
  const order = maskHistory ? 'newest_first' : 'oldest_first';
  const fitted = kept.map((turns) => fitTurns(turns, cutoffLength, order));
  return collected(
    fitted.map(({ turns }) => labelled(turns, trainOnPrompt)),
    {
      isTruncated: fitted.some(({ isTruncated }) => isTruncated),
      numAnswersCut: fitted.reduce((sum, { numAnswersCut }) => sum + numAnswersCut, 0),
    },
  );
}

function onlyLastSupervised(turns: readonly Turn[]): Turn[] {
  return turns.map((turn, index) => (index === turns.length - 1 ? turn : { ...turn, isSupervised: false }));
}

function labelled(turns: readonly FittedTurn[], trainOnPrompt: boolean): TokenizedExample {
  const tokens: number[] = [];
  const labels: number[] = [];
  for (const { source, numRepeated, target, isSupervised } of turns) {
    for (const [index, token] of source.entries())
      labels.push(trainOnPrompt && index >= numRepeated ? token : IGNORED);
    for (const token of target) labels.push(isSupervised ? token : IGNORED);
    tokens.push(...source, ...target);
  }
  return tokenizedExample(tokens, labels);
}

/**
 * Neighbouring windows share a token: the last of one is the first, unpredicted, of the next, so that each token of the text but its
 * first is learned once.
 */
function tokenizeText(
  { text }: TextExample,
  tokenizer: TextTokenizer,
  { cutoffLength }: TokenizingOptions,
): Tokenized {
  const [eos] = tokenizer.eosTokenIds;
  if (eos === undefined)
    throw new GatewayError(
      'unsupported_model',
      'The base names no token that ends a text, which stage pt puts behind each document; set eos_token in tokenizer_config.json',
      { param: 'eos_token' },
    );
  const tokens = [...tokenizer.encode(text), eos];
  const parts: TokenizedExample[] = [];
  for (let start = 0; start < tokens.length - 1; start += cutoffLength - 1) {
    const window = tokens.slice(start, start + cutoffLength);
    parts.push(tokenizedExample(window, window));
  }
  return collected(parts, { isTruncated: false, numAnswersCut: 0 });
}

/** The longer answer decides how much is kept of the prompt. */
function tokenizePreference(
  { prompt, chosen, rejected }: PreferenceExample,
  tokenizer: TextTokenizer,
  { cutoffLength }: TokenizingOptions,
): Tokenized {
  const render = (messages: PreferenceExample['prompt'], addGenerationPrompt: boolean): number[] =>
    tokenizer.encodeChat(
      messages.map(({ role, content }) => ({ role, content })),
      { addGenerationPrompt },
    );
  const source = render(prompt, true);
  const answers = [chosen, rejected].map((answer) =>
    answerTokens(source, render([...prompt, ...answer], false), tokenizer),
  );
  const longest = Math.max(...answers.map((answer) => answer.length));
  const lengths = inferLengths(source.length, longest, cutoffLength);
  const isTruncated = lengths.source + lengths.target < source.length + longest;
  const headerLength = () => source.length - commonPrefixLength(source, render(prompt, false));
  const kept = isTruncated ? cutSource(source, lengths.source, headerLength()) : source;
  const [first, second] = answers.map((answer) => answered(kept, answer.slice(0, lengths.target)));
  return collected([{ chosen: first!, rejected: second! }], {
    isTruncated,
    numAnswersCut: answers.filter((answer) => answer.length > lengths.target).length,
  });
}

function answered(source: readonly number[], target: readonly number[]): TokenizedExample {
  return tokenizedExample([...source, ...target], [...source.map(() => IGNORED), ...target]);
}

/** Nothing comes before the first token, so it is not predicted. */
function tokenizedExample(tokens: readonly number[], labels: readonly number[]): TokenizedExample {
  const example = { tokens: Int32Array.from(tokens), labels: Int32Array.from(labels) };
  if (labels.length > 0) example.labels[0] = IGNORED;
  return example;
}

function collected(
  parts: readonly (TokenizedExample | TokenizedPair)[],
  facts: Pick<Tokenized, 'isTruncated' | 'numAnswersCut'>,
): Tokenized {
  const learned = parts.filter((part) => sidesOf(part).every((side) => countSupervised(side) > 0));
  const numSupervised = learned
    .flatMap(sidesOf)
    .reduce((sum, side) => sum + countSupervised(side), 0);
  return { parts: learned, ...facts, numSupervised };
}

export function isPair(part: TokenizedExample | TokenizedPair): part is TokenizedPair {
  return 'chosen' in part;
}

/** The example itself, or both sides of a pair, chosen first. */
export function sidesOf(part: TokenizedExample | TokenizedPair): readonly TokenizedExample[] {
  return isPair(part) ? [part.chosen, part.rejected] : [part];
}

export function countSupervised({ labels }: TokenizedExample): number {
  let count = 0;
  for (const label of labels) if (label !== IGNORED) count++;
  return count;
}
