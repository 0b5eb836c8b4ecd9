// Byte-pair merges against the definition itself, carried out literally, and what becomes of characters that are no token.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { BytePairModel } from '../../src/tokenizer/byte-pair-model.js';
import { runSteps } from '../../src/tokenizer/steps.js';
import { TokenTable } from '../../src/tokenizer/token-table.js';
import { randomNumbers } from '../helpers/tokenizer-fixture.js';

interface Model {
  vocab: Record<string, number>;
  merges: (readonly [string, string] | string)[];
  [option: string]: unknown;
}

function modelOf(model: Model): BytePairModel {
  return new BytePairModel(model, new TokenTable({ model, decoder: { type: 'ByteFallback' } }));
}

const encode = (model: Model, piece: string): number[] => runSteps(modelOf(model).encode(piece));

/** A vocabulary over few letters, grown by random merges of tokens that are there already. */
function randomModel(random: (below: number) => number): {
  vocab: Model['vocab'];
  merges: [string, string][];
} {
  const tokens = ['a', 'b', 'c', '世', '😀'];
  const merges: [string, string][] = [];
  while (merges.length < 30) {
    const [left, right] = [tokens[random(tokens.length)]!, tokens[random(tokens.length)]!];
    if (tokens.includes(left + right)) continue;
    tokens.push(left + right);
    merges.push([left, right]);
  }
  return { vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges };
}

/** As it is defined: join the leftmost pair of the lowest rank until no pair has one. */
function joinLiterally(merges: readonly (readonly [string, string])[], piece: string): string[] {
  const tokens = Array.from(piece);
  for (;;) {
    const ranks = tokens.map((token, i) =>
      merges.findIndex(([left, right]) => left === token && right === tokens[i + 1]),
    );
    const lowest = Math.min(...ranks.filter((rank) => rank >= 0));
    if (lowest === Infinity) return tokens;
    const at = ranks.indexOf(lowest);
    tokens.splice(at, 2, tokens[at]! + tokens[at + 1]!);
  }
}

test('any piece is joined as the definition says', () => {
  const random = randomNumbers(11);
  const letters = ['a', 'a', 'a', 'b', 'b', 'c', '世', '😀'];
  for (let round = 0; round < 40; round++) {
    const { vocab, merges } = randomModel(random);
    for (let length = 0; length < 40; length++) {
      const piece = Array.from({ length }, () => letters[random(letters.length)]!).join('');
      const expected = joinLiterally(merges, piece).map((token) => vocab[token]);
      assert.deepEqual(encode({ vocab, merges }, piece), expected, `${piece} by ${merges.join(' ')}`);
    }
  }
});

test('a long piece takes several steps, and gives what a short one gives over and over', () => {
  const model = { vocab: { a: 0, b: 1, ab: 2, abab: 3 }, merges: ['a b', 'ab ab'] };
  const steps = modelOf(model).encode('abababa'.repeat(30_000));
  let count = 1;
  let step = steps.next();
  for (; step.done !== true; step = steps.next()) count++;
  assert.ok(count > 20, `${count} steps`);
  assert.deepEqual(step.value, Array.from({ length: 30_000 }, () => [3, 2, 0]).flat());
});

test('characters that are no token: bytes, the unknown token, or nothing', () => {
  const bytes = Array.from({ length: 256 }, (_, byte) => byte.toString(16).toUpperCase().padStart(2, '0'));
  const vocab = {
    a: 0,
    '<unk>': 1,
    ...Object.fromEntries(bytes.map((byte, i) => [`<0x${byte}>`, 10 + i])),
  };
  const merges: string[] = [];
  assert.deepEqual(encode({ vocab, merges, byte_fallback: true }, 'aéa'), [0, 10 + 0xc3, 10 + 0xa9, 0]);
  assert.deepEqual(encode({ vocab, merges, unk_token: '<unk>' }, 'aéüa'), [0, 1, 1, 0]);
  assert.deepEqual(encode({ vocab, merges, unk_token: '<unk>', fuse_unk: true }, 'éaéüa😀'), [1, 0, 1, 0, 1]);
  assert.deepEqual(encode({ vocab, merges, unk_token: null }, 'aéüa'), [0, 0]);
});

test('spelled out, a piece is its characters', () => {
  const model = modelOf({ vocab: { a: 0, b: 1, ab: 2 }, merges: ['a b'] });
  assert.deepEqual(runSteps(model.spell('abab')), [0, 1, 0, 1]);
});

test('a merge that is none, and options that change the merging, are refused by name', () => {
  const refused = (changes: object, code: string, message: RegExp) =>
    assert.throws(
      () => modelOf({ vocab: { a: 0, b: 1 }, merges: [], ...changes }),
      (error) => error instanceof GatewayError && error.code === code && message.test(error.message),
    );
  refused({ merges: ['a b'] }, 'invalid_file', /model\.merges\.0.*"a b"/);
  refused({ merges: [['a', 'c']] }, 'invalid_file', /\["a","c"\]/);
  refused({ merges: [7] }, 'invalid_file', /got 7/);
  refused({ end_of_word_suffix: '</w>' }, 'unsupported_model', /end_of_word_suffix/);
  refused({ dropout: 0.1 }, 'unsupported_model', /dropout/);
});
