// Each native operator against a plain reference, and what the engine relies on: a row's result has the same bits in any company.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomStream } from '../../src/engine/random.js';
import { float16ToFloat32, float32ToFloat16 } from '../../src/formats/float16.js';
import { int } from '../../src/graph/builder.js';
import { fitsNative, nativeHalf, nativeLayout } from '../../src/model/native-layout.js';
import type { PackedMatrix } from '../../src/model/projection-group.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { builtKernels, chooseKernels } from '../../src/runtime/native-kernels.js';
import { floats, runOperator, type OperatorInput } from '../helpers/operator-run.js';

const libraries = builtKernels();
const skip = libraries.length === 0 && 'no kernels were compiled here: no C compiler, or another processor';
const BLOCK = 32;

function random(seed: number, size: number, scale = 1): Float32Array {
  const next = randomStream(seed);
  return Float32Array.from({ length: size }, () => (2 * next() - 1) * scale);
}

function assertNear(got: Float32Array, expected: ArrayLike<number>, tolerance: number, label: string): void {
  assert.equal(got.length, expected.length, label);
  let worst = 0;
  got.forEach((value, i) => (worst = Math.max(worst, Math.abs(value - expected[i]!))));
  assert(worst <= tolerance, `${label}: differs by ${worst}`);
}

/** x as the operator sees it: int8 with a scale for each block of 32. */
function rounded(x: Float32Array, rows: number): Float64Array {
  const width = x.length / rows;
  const out = new Float64Array(x.length);
  for (let m = 0; m < rows; m++)
    for (let start = 0; start < width; start += BLOCK) {
      const block = x.subarray(m * width + start, m * width + Math.min(start + BLOCK, width));
      const scale = Math.fround(Math.max(...block.map(Math.abs)) / 127);
      const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
      block.forEach((value, i) => {
        const exact = Math.fround(value * inverse);
        const even = Math.round(exact) - (Math.abs(exact % 1) === 0.5 && Math.round(exact) % 2 !== 0 ? 1 : 0);
        out[m * width + start + i] = even * scale;
      });
    }
  return out;
}

interface MadeMatrix {
  readonly pack: PackedMatrix;
  readonly packed: Uint8Array;
  readonly values: Float64Array;
}

function madeMatrix(
  kind: 'int4' | 'int8',
  rows: number,
  cols: number,
  scaleOf: (i: number) => number,
): MadeMatrix {
  const blocks = Math.ceil(cols / BLOCK);
  const next = randomStream(rows + cols);
  const zero = kind === 'int4' ? 8 : 128;
  const codes = Uint8Array.from({ length: rows * blocks * BLOCK }, () => Math.floor(next() * 2 * zero));
  const scales = Float32Array.from({ length: rows * blocks }, (_, i) => scaleOf(i));
  const minima = scales.map((scale, i) => scale * ((i % 5) - 2));
  const bytes =
    kind === 'int8'
      ? codes
      : Uint8Array.from({ length: codes.length / 2 }, (_, i) => codes[2 * i]! | (codes[2 * i + 1]! << 4));
  const values = new Float64Array(rows * cols);
  for (let n = 0; n < rows; n++)
    for (let k = 0; k < cols; k++) {
      const block = n * blocks + Math.floor(k / BLOCK);
      values[n * cols + k] = scales[block]! * (codes[n * blocks * BLOCK + k]! - zero) + minima[block]!;
    }
  const plain = { name: 'w', kind, rows, cols, blockSize: BLOCK, minimaBlockSize: BLOCK, native: null };
  const { packed, half } = nativeLayout(plain, { codes: bytes, scales, minima });
  assert.equal(half, nativeHalf(plain, packed.length));
  return { pack: { ...plain, native: { half } }, packed, values };
}

const HALF_SCALE = (i: number): number => 2 ** -(4 + (i % 3));
const FLOAT_SCALE = (i: number): number => Math.fround(0.01 + (i % 7) / 1000);

function linear(
  library: string,
  { pack, packed }: MadeMatrix,
  x: Float32Array,
  rows: number,
): Promise<Float32Array> {
  return runOperator(library, {
    op: 'QuantizedLinear',
    attributes: {
      N: int(pack.rows),
      K: int(pack.cols),
      bits: int(pack.kind === 'int4' ? 4 : 8),
      half: int(pack.native!.half ? 1 : 0),
    },
    inputs: [
      floats('x', [1, rows, pack.cols], x),
      { name: 'w', type: 'u8', shape: [packed.length], data: packed },
    ],
    outputShape: [1, rows, pack.rows],
  });
}

for (const library of libraries) {
  const build = /kernels-(\w+)/.exec(library)![1]!;

  test(`${build}: products with 4 and 8 bits, any shape, f16 and f32 scales`, async () => {
    for (const kind of ['int4', 'int8'] as const)
      for (const [scaleOf, half] of [
        [HALF_SCALE, true],
        [FLOAT_SCALE, false],
      ] as const)
        for (const [rows, cols] of [
          [32, 32],
          [96, 64],
          [40, 80],
          [7, 33],
          [1100, 96],
        ] as const) {
          const matrix = madeMatrix(kind, rows, cols, scaleOf);
          assert.equal(matrix.pack.native!.half, half);
          const numRows = 15;
          const x = random(rows, numRows * cols);
          const seen = rounded(x, numRows);
          const expected = Float64Array.from({ length: numRows * rows }, (_, i) => {
            const [m, n] = [Math.floor(i / rows), i % rows];
            let sum = 0;
            for (let k = 0; k < cols; k++) sum += seen[m * cols + k]! * matrix.values[n * cols + k]!;
            return sum;
          });
          const size = Math.max(...expected.map(Math.abs));
          assertNear(
            await linear(library, matrix, x, numRows),
            expected,
            1e-5 * size,
            `${kind} ${rows}x${cols}`,
          );
        }
  });

  test(`${build}: a row's product has the same bits among any number of rows`, async () => {
    const matrix = madeMatrix('int4', 64, 96, FLOAT_SCALE);
    const x = random(5, 40 * 96);
    const together = await linear(library, matrix, x, 40);
    for (const m of [0, 3, 7, 12, 39]) {
      const alone = await linear(library, matrix, x.slice(m * 96, (m + 1) * 96), 1);
      assert.deepEqual(alone, together.slice(m * 64, (m + 1) * 64), `row ${m}`);
    }
  });

  test(`${build}: a row of zeros, and one with a single huge value, give what they should`, async () => {
    const matrix = madeMatrix('int4', 32, 32, HALF_SCALE);
    const x = new Float32Array(64);
    x[32] = 1e30;
    const y = await linear(library, matrix, x, 2);
    assert(y.subarray(0, 32).every((value) => value === 0));
    y.subarray(32).forEach((value, n) =>
      assert(Math.abs(value / 1e30 - matrix.values[n * 32]!) < 1e-5, `output ${n}`),
    );
  });

  for (const [headDim, heads, kvHeads, window] of [
    [64, 6, 2, 0],
    [16, 4, 4, 0],
    [80, 7, 1, 0],
    [128, 2, 1, 5],
  ] as const)
    test(`${build}: attention with ${heads}/${kvHeads} heads of ${headDim}${window > 0 ? `, window ${window}` : ''}`, async () => {
      const shape = { headDim, heads, kvHeads, window, capacity: 70 };
      const numTokens = 61;
      const qkv = random(headDim, numTokens * (heads + 2 * kvHeads) * headDim);
      const whole = attentionState(shape, 1);
      const got = await attend(library, shape, whole, qkv, 1, numTokens, [numTokens]);
      assertNear(got, attentionReference(shape, qkv, numTokens), 2e-5, 'whole');
      // In chunks, the last one of one token; then beside another row: the same bits.
      const parts = attentionState(shape, 1);
      const width = qkv.length / numTokens;
      const chunks: number[] = [];
      for (const [start, end] of [
        [0, 17],
        [17, 49],
        [49, 60],
        [60, 61],
      ] as const)
        chunks.push(
          ...(await attend(library, shape, parts, qkv.slice(start * width, end * width), 1, end - start, [
            end,
          ])),
        );
      assert.deepEqual(Float32Array.from(chunks), got);
      assert.deepEqual(parts.keys, whole.keys);
      assert.deepEqual(parts.values, whole.values);
      const pair = attentionState(shape, 2);
      const padded = new Float32Array(2 * qkv.length);
      padded.set(qkv.subarray(0, 20 * width));
      padded.set(qkv, qkv.length);
      const both = await attend(library, shape, pair, padded, 2, numTokens, [20, numTokens]);
      const outWidth = heads * headDim;
      assert.deepEqual(both.slice(0, 20 * outWidth), got.slice(0, 20 * outWidth));
      assert.deepEqual(both.slice(numTokens * outWidth), got);
    });

  for (const [rank, half] of [
    [8, false],
    [16, false],
    [5, false],
    [16, true],
    [3, true],
  ] as const)
    test(`${build}: low-rank updates of rank ${rank}${half ? ' in f16' : ''}, each row with its own adapter or none`, async () => {
      const [K, outputs, adapters, S] = [50, [70, 24, 129], [1, -1, 0, 2, 2], 3];
      const N = outputs.reduce((sum, size) => sum + size);
      const B = adapters.length;
      const [x, y] = [random(1, B * S * K), random(2, B * S * N)];
      // In f16 the same numbers, so that the reference is the same.
      const weights = (seed: number, size: number): Float32Array =>
        half ? inHalf(random(seed, size)) : random(seed, size);
      const a = weights(3, 3 * K * 3 * rank);
      const b = outputs.map((size, p) => weights(4 + p, 3 * rank * size));
      const matrix = (name: string, shape: readonly number[], data: Float32Array): OperatorInput =>
        half ? { name, type: 'f16', shape, data: float32ToFloat16(data) } : floats(name, shape, data);
      const run = (rows: readonly number[]): Promise<Float32Array> =>
        runOperator(library, {
          op: 'LowRankUpdate',
          attributes: { half: int(half ? 1 : 0) },
          inputs: [
            floats('y', [rows.length, S, N], pickRows(y, rows, S * N)),
            floats('x', [rows.length, S, K], pickRows(x, rows, S * K)),
            {
              name: 'adapters',
              type: 'i32',
              shape: [rows.length],
              data: Int32Array.from(rows, (row) => adapters[row]!),
            },
            matrix('a', [3, K, 3 * rank], a),
            ...outputs.map((size, p) => matrix(`b${p}`, [3, rank, size], b[p]!)),
          ],
          outputShape: [rows.length, S, N],
        });
      const got = await run(adapters.map((_, row) => row));
      const expected = Float64Array.from(y);
      for (let m = 0; m < B * S; m++) {
        const adapter = adapters[Math.floor(m / S)]!;
        if (adapter < 0) continue;
        let offset = 0;
        outputs.forEach((size, p) => {
          for (let r = 0; r < rank; r++) {
            let down = 0;
            for (let k = 0; k < K; k++)
              down += x[m * K + k]! * a[(adapter * K + k) * 3 * rank + p * rank + r]!;
            for (let n = 0; n < size; n++)
              expected[m * N + offset + n]! += down * b[p]![(adapter * rank + r) * size + n]!;
          }
          offset += size;
        });
      }
      assertNear(got, expected, 1e-4, 'all rows');
      for (const row of [0, 3])
        assert.deepEqual(await run([row]), pickRows(got, [row], S * N), `row ${row} alone`);
    });

  test(`${build}: f32 to f16 rounds as the plain conversion does`, () => {
    const values = Float32Array.of(0, -0, 1, 1 / 3, -65504, 65520, 1e9, 6e-8, 1e-9, 0.1, 2049, 2051, NaN);
    const out = new Uint16Array(values.length);
    new Runtime(library).toHalf(values, out);
    assert.deepEqual(out, float32ToFloat16(values));
  });

  test(`${build}: silu(gate) * up`, async () => {
    const [rows, width] = [5, 43];
    const x = random(1, rows * 2 * width, 30);
    x.set([-200, 200, 0], 0);
    const y = await runOperator(library, {
      op: 'SiluGated',
      inputs: [floats('x', [rows, 2 * width], x)],
      outputShape: [rows, width],
    });
    const expected = Float64Array.from({ length: rows * width }, (_, i) => {
      const at = Math.floor(i / width) * 2 * width + (i % width);
      return (x[at]! / (1 + Math.exp(-x[at]!))) * x[at + width]!;
    });
    assertNear(y, expected, 1e-3, 'gated');
  });
}

function inHalf(values: Float32Array): Float32Array {
  return float16ToFloat32(new Uint8Array(float32ToFloat16(values).buffer));
}

interface AttentionShape {
  readonly headDim: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly window: number;
  readonly capacity: number;
}

interface AttentionState {
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

function attentionState({ headDim, kvHeads, capacity }: AttentionShape, rows: number): AttentionState {
  const size = rows * kvHeads * capacity * headDim;
  return { keys: new Float32Array(size), values: new Float32Array(size) };
}

function angles({ headDim, capacity }: AttentionShape): readonly Float32Array[] {
  const half = headDim / 2;
  const angle = (i: number): number => Math.floor(i / half) / 10 ** ((i % half) / half);
  return [Math.cos, Math.sin].map((f) =>
    Float32Array.from({ length: capacity * half }, (_, i) => f(angle(i))),
  );
}

/** `ends` are the rows' lengths after the run. */
function attend(
  library: string,
  shape: AttentionShape,
  { keys, values }: AttentionState,
  qkv: Float32Array,
  rows: number,
  numTokens: number,
  ends: readonly number[],
): Promise<Float32Array> {
  const { headDim, heads, kvHeads, window, capacity } = shape;
  const [cos, sin] = angles(shape);
  const cache = [rows, kvHeads, capacity, headDim];
  const lengths: OperatorInput = {
    name: 'lengths',
    type: 'i32',
    shape: [rows],
    data: Int32Array.from(ends, (end) => end - 1),
  };
  return runOperator(library, {
    op: 'CachedAttention',
    attributes: {
      num_heads: int(heads),
      kv_num_heads: int(kvHeads),
      ...(window > 0 ? { local_window_size: int(window) } : {}),
    },
    inputs: [
      floats('qkv', [rows, numTokens, (heads + 2 * kvHeads) * headDim], qkv),
      null,
      null,
      floats('keys', cache, keys),
      floats('values', cache, values),
      lengths,
      floats('cos', [capacity, headDim / 2], cos!),
      floats('sin', [capacity, headDim / 2], sin!),
    ],
    outputShape: [rows, numTokens, heads * headDim],
    inPlace: ['keys', 'values'],
  });
}

/** Causal attention of one whole sequence, in f64. */
function attentionReference(shape: AttentionShape, qkv: Float32Array, numTokens: number): Float64Array {
  const { headDim, heads, kvHeads, window } = shape;
  const [cos, sin] = angles(shape);
  const width = (heads + 2 * kvHeads) * headDim;
  const half = headDim / 2;
  const head = (token: number, h: number, rotate: boolean): Float64Array => {
    const x = qkv.subarray(token * width + h * headDim, token * width + (h + 1) * headDim);
    return Float64Array.from(x, (value, i) => {
      if (!rotate) return value;
      const at = token * half + (i % half);
      return value * cos![at]! + (i < half ? -x[i + half]! : x[i - half]!) * sin![at]!;
    });
  };
  const out = new Float64Array(numTokens * heads * headDim);
  for (let t = 0; t < numTokens; t++)
    for (let h = 0; h < heads; h++) {
      const q = head(t, h, true);
      const kv = Math.floor(h / (heads / kvHeads));
      const first = window > 0 ? Math.max(0, t + 1 - window) : 0;
      const weights = Array.from({ length: t + 1 - first }, (_, i) => {
        const k = head(first + i, heads + kv, true);
        return Math.exp(k.reduce((sum, value, d) => sum + value * q[d]!, 0) / Math.sqrt(headDim));
      });
      const total = weights.reduce((sum, weight) => sum + weight);
      weights.forEach((weight, i) =>
        head(first + i, heads + kvHeads + kv, false).forEach(
          (value, d) => (out[(t * heads + h) * headDim + d]! += (weight / total) * value),
        ),
      );
    }
  return out;
}

function pickRows(values: Float32Array, rows: readonly number[], size: number): Float32Array {
  return Float32Array.from(rows.flatMap((row) => [...values.subarray(row * size, (row + 1) * size)]));
}

test('which matrices the kernels take', { skip }, () => {
  const pack = {
    name: 'w',
    kind: 'int4',
    rows: 8,
    cols: 64,
    blockSize: 32,
    minimaBlockSize: 32,
    native: null,
  } as const;
  assert(fitsNative(pack));
  assert(fitsNative({ ...pack, kind: 'int8', minimaBlockSize: null }));
  assert(!fitsNative({ ...pack, kind: 'f32' }));
  assert(!fitsNative({ ...pack, blockSize: 16 }));
  assert(!fitsNative({ ...pack, minimaBlockSize: 16 }));
  assert.equal(chooseKernels('onnxruntime'), null);
  assert.equal(chooseKernels('native'), libraries[0]);
});
