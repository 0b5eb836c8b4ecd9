// Row lengths of W + scale * B A: by hand, and the SIMD form against the plain one at sizes that do not fill its blocks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Matrix } from '../../src/adapters/low-rank.js';
import { createPacer } from '../../src/adapters/pacer.js';
import { openRowLengthKernel } from '../../src/adapters/row-length-kernel.js';
import { plainRowLengths, type RowLengths, simdRowLengths } from '../../src/adapters/row-lengths.js';
import type { StoredMatrix } from '../../src/model/stored-matrix.js';
import { gated, randomTensor, seededRandom, storedMatrix } from '../helpers/adapter-fixtures.js';

function simd(): RowLengths {
  const kernel = openRowLengthKernel();
  assert.ok(kernel !== null, 'the kernel is no valid WebAssembly here');
  return simdRowLengths(kernel);
}

const FORMS = [
  ['plain', () => plainRowLengths],
  ['SIMD', simd],
] as const;

function matrix(rows: number, cols: number, values: readonly number[]): Matrix {
  return { rows, cols, data: Float32Array.from(values) };
}

function weight({ rows, cols, data }: Matrix): StoredMatrix {
  return storedMatrix({ shape: [rows, cols], data: Float32Array.from(data) });
}

function random(rows: number, cols: number, next: () => number): Matrix {
  return { rows, cols, data: randomTensor([rows, cols], next).data };
}

for (const [name, form] of FORMS) {
  test(`${name}: worked out by hand`, async () => {
    const lengths = await form()(
      weight(matrix(3, 2, [3, 4, 1, 1, 0, 0])),
      matrix(3, 1, [0, 2, 0]),
      matrix(1, 2, [1, 5]),
      0.5,
      createPacer(),
    );
    // [3, 4]; [1, 1] + 0.5 * 2 * [1, 5] = [2, 6]; [0, 0]
    assert.deepEqual([...lengths], [5, Math.sqrt(40), 0]);
  });

  test(`${name}: squares beyond f32 have a length, and so have squares below it`, async () => {
    const lengths = await form()(
      weight(matrix(2, 2, [3e30, 4e30, 3e-30, 4e-30])),
      matrix(2, 1, [0, 0]),
      matrix(1, 2, [1, 1]),
      1,
      createPacer(),
    );
    assert.ok(Math.abs(lengths[0]! / 5e30 - 1) < 1e-7, `got ${lengths[0]}`);
    assert.ok(Math.abs(lengths[1]! / 5e-30 - 1) < 1e-7, `got ${lengths[1]}`);
  });
}

test('SIMD equals plain, one matrix after the other in the same memory', async () => {
  const next = seededRandom(11);
  const inSimd = simd();
  for (const [rows, cols, rank] of [
    [1, 1, 1],
    [64, 64, 8],
    [17, 13, 3],
    [5, 24, 16],
    [33, 1030, 20],
    [18, 7, 2],
    [4, 8, 4],
  ] as const) {
    const stored = weight(random(rows, cols, next));
    const [left, right] = [random(rows, rank, next), random(rank, cols, next)];
    const expected = await plainRowLengths(stored, left, right, 0.75, createPacer());
    const lengths = await inSimd(stored, left, right, 0.75, createPacer());
    assert.equal(lengths.length, rows);
    for (const [row, length] of lengths.entries())
      assert.ok(
        Math.abs(length / expected[row]! - 1) < 1e-6,
        `[${rows}, ${cols}] rank ${rank}, row ${row}: ${length}, expected ${expected[row]}`,
      );
  }
});

test('SIMD keeps what little a row that nearly vanishes has left', async () => {
  const stored = weight(matrix(1, 8, [1, 2, 3, 4, 5, 6, 7, 8]));
  const right = matrix(1, 8, [1, 2, 3, 4, 5, 6, 7, 8 - 2 ** -20]);
  const lengths = await simd()(stored, matrix(1, 1, [-1]), right, 1, createPacer());
  assert.deepEqual([...lengths], [2 ** -20]);
});

test('both let the event loop run, and SIMD takes no second matrix meanwhile', async () => {
  const stored = weight(
    matrix(
      40,
      8,
      Array.from({ length: 320 }, () => 1),
    ),
  );
  const [left, right] = [
    matrix(
      40,
      1,
      Array.from({ length: 40 }, () => 0),
    ),
    matrix(1, 8, [1, 1, 1, 1, 1, 1, 1, 1]),
  ];
  for (const form of [plainRowLengths, simd()]) {
    const { promise, resolve } = gated<undefined>();
    let waits = 0;
    const pacer = { spent: () => (waits++, promise) };
    const lengths = form(stored, left, right, 1, pacer);
    if (form !== plainRowLengths)
      await assert.rejects(form(stored, left, right, 1, pacer), /one matrix at a time/);
    resolve(undefined);
    assert.equal((await lengths)[39], Math.sqrt(8));
    assert.ok(waits >= 3, `waited ${waits} times`);
  }
});
