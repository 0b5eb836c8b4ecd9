// Products in bfloat16 against a plain reference that rounds as they do; and a row has the same bits in any company.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomStream } from '../../src/engine/random.js';
import { bfloat16ToFloat32 } from '../../src/formats/float16.js';
import { encodeFloats } from '../../src/formats/float-encoding.js';
import { int } from '../../src/graph/builder.js';
import { bfloat16Kernels } from '../../src/runtime/native-kernels.js';
import { floats, runOperator } from '../helpers/operator-run.js';

const library = bfloat16Kernels();
const skip = library === null && 'no kernels with bfloat16 were compiled here, or the processor has none';

function random(seed: number, size: number): Float32Array {
  const next = randomStream(seed);
  return Float32Array.from({ length: size }, () => 2 * next() - 1);
}

const rounded = (values: Float32Array): Float32Array => bfloat16ToFloat32(encodeFloats('BF16', values));

interface Matrix {
  readonly values: Float32Array;
  readonly rows: number;
  readonly cols: number;
}

const matrixOf = (rows: number, cols: number): Matrix => ({
  values: random(rows + cols, rows * cols),
  rows,
  cols,
});

function product(
  x: Float32Array,
  { values, rows, cols }: Matrix,
  transposed: boolean,
  stored: 'f32' | 'bf16',
): Promise<Float32Array> {
  const [depth, width] = transposed ? [rows, cols] : [cols, rows];
  const w =
    stored === 'f32'
      ? floats('w', [rows, cols], values)
      : { name: 'w', type: 'u8' as const, shape: [rows, cols, 2], data: encodeFloats('BF16', values) };
  return runOperator(library!, {
    op: 'Bfloat16Linear',
    attributes: { transposed: int(+transposed) },
    inputs: [floats('x', [1, x.length / depth, depth], x), w],
    outputShape: [1, x.length / depth, width],
  });
}

function expected(x: Float32Array, { values, rows, cols }: Matrix, transposed: boolean): Float64Array {
  const [depth, width] = transposed ? [rows, cols] : [cols, rows];
  const [seen, w] = [rounded(x), rounded(values)];
  return Float64Array.from({ length: (x.length / depth) * width }, (_, i) => {
    const [m, column] = [Math.floor(i / width), i % width];
    let sum = 0;
    for (let k = 0; k < depth; k++)
      sum += seen[m * depth + k]! * w[transposed ? k * cols + column : column * cols + k]!;
    return sum;
  });
}

for (const transposed of [false, true])
  for (const [rows, cols] of [
    [32, 32],
    [96, 64],
    [40, 80],
    [7, 33],
    [1, 1],
    [1100, 96],
    [64, 1030],
  ] as const)
    test(`${transposed ? 'x W' : 'x times the transpose of W'}, ${rows} x ${cols}`, { skip }, async () => {
      const matrix = matrixOf(rows, cols);
      const x = random(rows, 15 * (transposed ? rows : cols));
      const wanted = expected(x, matrix, transposed);
      const size = Math.max(...wanted.map(Math.abs));
      const got = await product(x, matrix, transposed, 'bf16');
      got.forEach((value, i) => assert(Math.abs(value - wanted[i]!) <= 1e-5 * size, `value ${i}`));
      assert.deepEqual(await product(x, matrix, transposed, 'f32'), got, 'W as f32');
    });

for (const transposed of [false, true])
  test(`a row has the same bits among any number of rows${transposed ? ', x W' : ''}`, { skip }, async () => {
    const matrix = matrixOf(600, 550);
    const [depth, width] = transposed ? [600, 550] : [550, 600];
    const x = random(5, 40 * depth);
    const together = await product(x, matrix, transposed, 'bf16');
    for (const m of [0, 3, 7, 12, 39]) {
      const alone = await product(x.slice(m * depth, (m + 1) * depth), matrix, transposed, 'bf16');
      assert.deepEqual(alone, together.slice(m * width, (m + 1) * width), `row ${m}`);
    }
  });

test('what is not finite stays so', { skip }, async () => {
  const matrix = matrixOf(8, 32);
  const x = new Float32Array(2 * 32).fill(1);
  x[3] = NaN;
  x[32] = Infinity;
  const y = await product(x, matrix, false, 'bf16');
  assert(y.every((value) => !Number.isFinite(value)));
});
