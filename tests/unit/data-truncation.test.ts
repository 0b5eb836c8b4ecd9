// Cuts to the longest length, by LLaMA-Factory's rule, and what is told of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maskText } from '../../src/data/mask-text.js';
import { sidesOf, tokenizeExample, type TokenizingOptions } from '../../src/data/tokenize-example.js';
import { inferLengths } from '../../src/data/truncation.js';
import type { TrainingMessage } from '../../src/data/types.js';
import { ByteTokenizer } from '../helpers/byte-tokenizer.js';

const tokenizer = new ByteTokenizer();
const user = (content: string): TrainingMessage => ({ role: 'user', content });
const assistant = (content: string): TrainingMessage => ({ role: 'assistant', content });
/** Tokens of a user's turn beside its text with the header that follows, and of an answer's. */
const PROMPT_EXTRA = '<user\n><assistant\n'.length;

function cut(messages: readonly TrainingMessage[], options: Partial<TokenizingOptions>) {
  const { parts, ...facts } = tokenizeExample({ kind: 'chat', messages }, tokenizer, {
    cutoffLength: 100,
    stage: 'sft',
    trainOnPrompt: false,
    maskHistory: false,
    ...options,
  });
  return { ...facts, texts: parts.flatMap(sidesOf).map((part) => maskText(part, tokenizer)) };
}

test('lengths as infer_seqlen gives them', () => {
  const cases: [source: number, target: number, cutoff: number, expected: [number, number]][] = [
    [10, 10, 100, [10, 10]],
    [200, 10, 100, [90, 10]],
    [10, 200, 100, [10, 90]],
    [200, 100, 100, [67, 33]],
    [50, 50, 100, [50, 50]],
    [60, 60, 100, [50, 50]],
    [60, 50, 100, [55, 45]],
    [49, 60, 100, [49, 51]],
    [0, 200, 100, [0, 100]],
    [5, 5, 1, [1, 0]],
  ];
  for (const [source, target, cutoff, [expectedSource, expectedTarget]] of cases)
    assert.deepEqual(
      inferLengths(source, target, cutoff),
      { source: expectedSource, target: expectedTarget },
      `${source} ${target} ${cutoff}`,
    );
});

test('a long prompt loses its end, never the header of the answer', () => {
  const { texts, isTruncated, numAnswersCut, numSupervised } = cut([user('x'.repeat(50)), assistant('abc')], {
    cutoffLength: 30,
  });
  assert.deepEqual(texts, [
    `<start>user\n${'x'.repeat(30 - 4 - PROMPT_EXTRA + 1)}<start>assistant\n⟦abc<end>⟧`,
  ]);
  assert.deepEqual([isTruncated, numAnswersCut, numSupervised], [true, 0, 4]);
});

test('a long answer loses its end, and with it the token that ends it', () => {
  const { texts, isTruncated, numAnswersCut } = cut([user('q'), assistant('y'.repeat(50))], {
    cutoffLength: 60,
  });
  assert.deepEqual(texts, [`<start>user\nq<end><start>assistant\n⟦${'y'.repeat(60 - PROMPT_EXTRA - 1)}⟧`]);
  assert.deepEqual([isTruncated, numAnswersCut], [true, 1]);
});

test('what fits exactly is whole', () => {
  const messages = [user('q'), assistant('a')];
  const whole = PROMPT_EXTRA + 1 + 2;
  assert.deepEqual(cut(messages, { cutoffLength: whole }).isTruncated, false);
  assert.deepEqual(cut(messages, { cutoffLength: whole - 1 }).isTruncated, true);
});

test('later turns go first; with mask_history earlier ones', () => {
  const messages = [user('1'), assistant('A'), user('2'), assistant('B'), user('3'), assistant('C')];
  const turn = (PROMPT_EXTRA + 3) * 2;
  const first = '<start>user\n1<end><start>assistant\n';
  const oldest = cut(messages, { cutoffLength: turn });
  assert.deepEqual(oldest.texts, [`${first}⟦A<end>⟧<start>user\n2<end><start>assistant\n⟦B<end>⟧`]);
  assert.deepEqual([oldest.isTruncated, oldest.numAnswersCut], [true, 1]);
  const newest = cut(messages, { cutoffLength: turn, maskHistory: true });
  assert.deepEqual(newest.texts, [
    '<start>user\n2<end><start>assistant\nB<end><start>user\n3<end><start>assistant\n⟦C<end>⟧',
  ]);
  assert.deepEqual([newest.isTruncated, newest.numAnswersCut], [true, 0]);
});

test('nothing is learned where the cut leaves no answer', () => {
  const messages = [
    user('q'.repeat(400)),
    { ...assistant('a'), weight: 0 as const },
    user('r'),
    assistant('b'),
  ];
  const { texts, numSupervised } = cut(messages, { cutoffLength: 40 });
  assert.deepEqual([texts, numSupervised], [[], 0]);
});

test('no part is longer than the cutoff, whatever the lengths', () => {
  for (let cutoffLength = 2; cutoffLength < 90; cutoffLength++)
    for (const maskHistory of [false, true]) {
      const messages = [user('1'), assistant('A'.repeat(9)), user('2'.repeat(30)), assistant('B'.repeat(20))];
      const { parts } = tokenizeExample({ kind: 'chat', messages }, tokenizer, {
        cutoffLength,
        stage: 'sft',
        trainOnPrompt: false,
        maskHistory,
      });
      for (const { tokens, labels } of parts.flatMap(sidesOf)) {
        assert(tokens.length <= cutoffLength, `${tokens.length} tokens at ${cutoffLength}`);
        assert.equal(labels.length, tokens.length);
      }
    }
});

test('a pair is cut as its longer answer asks, the prompt being the same on both sides', () => {
  const { parts, isTruncated, numAnswersCut } = tokenizeExample(
    {
      kind: 'preference',
      prompt: [user('q'.repeat(40))],
      chosen: [assistant('c'.repeat(30))],
      rejected: [assistant('r')],
    },
    tokenizer,
    { cutoffLength: 60, stage: 'dpo', trainOnPrompt: false, maskHistory: false },
  );
  const target = Math.trunc(60 * (31 / (40 + PROMPT_EXTRA + 31)));
  const prompt = `<start>user\n${'q'.repeat(60 - target - PROMPT_EXTRA + 1)}<start>assistant\n`;
  assert.deepEqual(
    parts.flatMap(sidesOf).map((side) => maskText(side, tokenizer)),
    [`${prompt}⟦${'c'.repeat(target)}⟧`, `${prompt}⟦r<end>⟧`],
  );
  assert.deepEqual([isTruncated, numAnswersCut], [true, 1]);
});
