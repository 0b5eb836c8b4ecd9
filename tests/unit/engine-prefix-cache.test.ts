// The prompt-prefix cache: whole blocks of exactly equal tokens under one root, within its bytes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK_TOKENS, PrefixCache } from '../../src/engine/prefix-cache.js';
import { randomStream } from '../../src/engine/random.js';

const BLOCK_FLOATS = 4;
const BLOCK_BYTES = 4 * BLOCK_FLOATS;
const ROOMY = 1000 * BLOCK_BYTES;

/** Values by which a block can be told: who wrote it, and where it begins. */
function blockValues(writer: number): (start: number, end: number) => Float32Array {
  return (start, end) => Float32Array.of(writer, start, end, 0);
}

function tokens(count: number, first = 0): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

test('finds the longest beginning in whole blocks, with the values that were read', () => {
  const cache = new PrefixCache(ROOMY);
  cache.insert('a', tokens(14), 14, blockValues(7));
  const hit = cache.lookup('a', tokens(14), 13);
  assert.equal(hit.numTokens, 12);
  assert.deepEqual(
    hit.blocks.map((values) => [...values]),
    [0, 4, 8].map((start) => [7, start, start + BLOCK_TOKENS, 0]),
  );
});

test('what is computed but not a whole block is not kept', () => {
  const cache = new PrefixCache(ROOMY);
  cache.insert('a', tokens(50), 7, blockValues(1));
  assert.equal(cache.sizeBytes, BLOCK_BYTES);
  assert.equal(cache.lookup('a', tokens(50), 50).numTokens, 4);
});

test('maxTokens bounds a hit: the last prompt token is always run', () => {
  const cache = new PrefixCache(ROOMY);
  cache.insert('a', tokens(8), 8, blockValues(1));
  assert.equal(cache.lookup('a', tokens(8), 8).numTokens, 8);
  assert.equal(cache.lookup('a', tokens(8), 7).numTokens, 4);
  assert.equal(cache.lookup('a', tokens(8), 3).numTokens, 0);
});

test('a token that differs ends the hit, and equal blocks elsewhere do not count', () => {
  const cache = new PrefixCache(ROOMY);
  cache.insert('a', tokens(64), 64, blockValues(1));
  for (const position of [0, 15, 16, 40, 63]) {
    const other = tokens(64);
    other[position] = 999;
    assert.equal(cache.lookup('a', other, 64).numTokens, BLOCK_TOKENS * Math.floor(position / BLOCK_TOKENS));
  }
  assert.equal(cache.lookup('a', tokens(16, 16), 16).numTokens, 0, 'the second block is no beginning');
  const [one, two] = [tokens(16), tokens(16, 16)];
  assert.equal(cache.lookup('a', [...two, ...one], 32).numTokens, 0);
});

test('tokens that join to the same digits are told apart', () => {
  const cache = new PrefixCache(ROOMY);
  const [a, b] = [
    [1, 23, ...tokens(14)],
    [12, 3, ...tokens(14)],
  ];
  cache.insert('a', a, 16, blockValues(1));
  assert.equal(cache.lookup('a', b, 16).numTokens, 0);
});

test('nothing is shared between roots', () => {
  const cache = new PrefixCache(ROOMY);
  const roots = ['base', 'a1', 'a11', 'b'];
  roots.forEach((root, i) => cache.insert(root, tokens(12), 12, blockValues(i)));
  roots.forEach((root, i) => {
    const { blocks } = cache.lookup(root, tokens(12), 12);
    assert.deepEqual(
      blocks.map(([writer]) => writer),
      [i, i, i],
    );
  });
  assert.equal(cache.lookup('never', tokens(12), 12).numTokens, 0);
  assert.equal(cache.sizeBytes, 12 * BLOCK_BYTES);
});

test('random conversations under random roots: every hit is what that root stored', () => {
  const random = randomStream(3);
  const below = (n: number): number => Math.floor(random() * n);
  const cache = new PrefixCache(20 * BLOCK_BYTES);
  let numHits = 0;
  for (let i = 0; i < 2000; i++) {
    const root = `root${below(3)}`;
    const prompt = Array.from({ length: 1 + below(6) }, () => tokens(BLOCK_TOKENS, 100 * below(2))).flat();
    const label = (end: number): string => `${root}:${prompt.slice(0, end).join()}`;
    const read = (start: number, end: number): Float32Array => hashed(label(end), start);
    const hit = cache.lookup(root, prompt, prompt.length);
    numHits += hit.blocks.length;
    hit.blocks.forEach((values, j) =>
      assert.deepEqual(values, hashed(label((j + 1) * BLOCK_TOKENS), j * BLOCK_TOKENS)),
    );
    cache.insert(root, prompt, prompt.length, read);
    assert(cache.sizeBytes <= 20 * BLOCK_BYTES);
  }
  assert(numHits > 500, `${numHits} hits`);
});

/** Values that only this text and place give. */
function hashed(text: string, start: number): Float32Array {
  let sum = 0;
  for (const char of text) sum = (sum * 31 + char.charCodeAt(0)) % 8_388_593;
  return Float32Array.of(sum, start, text.length, 1);
}

test('only blocks that are not kept yet are read', () => {
  const cache = new PrefixCache(ROOMY);
  const read: number[] = [];
  const reader = (start: number): Float32Array => {
    read.push(start);
    return new Float32Array(BLOCK_FLOATS);
  };
  cache.insert('a', tokens(10), 10, reader);
  cache.insert('a', tokens(18), 18, reader);
  assert.deepEqual(read, [0, 4, 8, 12]);
});

test('bytes are bounded; blocks used last stay', () => {
  const cache = new PrefixCache(3 * BLOCK_BYTES);
  for (const root of ['a', 'b', 'c']) cache.insert(root, tokens(4), 4, blockValues(0));
  cache.lookup('a', tokens(4), 4);
  cache.insert('d', tokens(4), 4, blockValues(0));
  assert.equal(cache.sizeBytes, 3 * BLOCK_BYTES);
  assert.deepEqual(
    ['a', 'b', 'c', 'd'].map((root) => cache.lookup(root, tokens(4), 4).numTokens),
    [4, 0, 4, 4],
  );
});

test('a long prompt loses its end first, so that its beginning stays of use', () => {
  const cache = new PrefixCache(4 * BLOCK_BYTES);
  cache.insert('a', tokens(16), 16, blockValues(0));
  cache.insert('b', tokens(4), 4, blockValues(0));
  assert.equal(cache.lookup('a', tokens(16), 16).numTokens, 12);
});

test('a prompt longer than the whole cache keeps what fits of its beginning', () => {
  const cache = new PrefixCache(4 * BLOCK_BYTES);
  for (let i = 0; i < 3; i++) {
    cache.insert('a', tokens(160), 160, blockValues(0));
    assert(cache.sizeBytes <= 4 * BLOCK_BYTES);
    assert.equal(cache.lookup('a', tokens(160), 160).numTokens, 16);
  }
});

test('hits and queries are counted in tokens', () => {
  const cache = new PrefixCache(ROOMY);
  cache.insert('a', tokens(40), 40, blockValues(0));
  cache.lookup('a', tokens(40), 39);
  cache.lookup('b', tokens(20), 19);
  assert.deepEqual([cache.queriedTokens, cache.hitTokens], [60, 36]);
});

test('0 bytes is off: nothing is read, kept or found', () => {
  const cache = new PrefixCache(0);
  cache.insert('a', tokens(64), 64, () => assert.fail('read though off'));
  assert.equal(cache.lookup('a', tokens(64), 64).numTokens, 0);
  assert.deepEqual([cache.sizeBytes, cache.hitTokens], [0, 0]);
});
