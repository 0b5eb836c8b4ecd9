// The squared lengths of the rows of W + B A as a WebAssembly kernel: blocks of 4 rows by 8 columns stay in registers while the rank is
// summed up in f32; squares are summed in f64. It knows offsets and panels; row-lengths.ts fills them.

import { advance, type Code, f64, get, i32, type Kernel, loop, moduleBytes, set, v128 } from './wasm-code.js';

/** Rows and columns of a block. The caller pads to multiples of them. */
export const BLOCK_ROWS = 4;
export const BLOCK_COLS = 8;

/** Parameters: byte offsets of the panels in memory, then counts. */
const [A, B, W, OUT] = [0, 1, 2, 3];
const [COL_BLOCKS, RANK, ROW_BYTES, ROW_BLOCKS] = [4, 5, 6, 7];
/** Pointers and counters of the loops. */
const [AT_A, AT_B, COLS_LEFT, RANK_LEFT] = [8, 9, 10, 11];
const ROWS = [0, 1, 2, 3];
const HALVES = [0, 1];
const atW = (row: number) => 12 + row;
/** Vectors: the block, the sums of squares, A's eight columns, a factor. */
const block = (row: number, half: number) => 16 + 2 * row + half;
const sum = (row: number) => 24 + row;
const columns = (half: number) => 28 + half;
const FACTOR = 30;

const PARAMETERS = 8;
const I32_LOCALS = 8;
const V128_LOCALS = 15;

/** block += B[rows, rank] * A[rank, columns] for one rank. A's panel has 8 columns a rank, B's 4 rows a rank. */
const ADD_RANK: Code = [
  ...HALVES.flatMap((half) => [...v128.load(AT_A, 16 * half), ...set(columns(half))]),
  ...ROWS.flatMap((row) => [
    ...v128.loadSplat(AT_B, 4 * row),
    ...set(FACTOR),
    ...HALVES.flatMap((half) => [
      ...[...get(block(row, half)), ...get(FACTOR), ...get(columns(half))],
      ...[...v128.f32Multiply, ...v128.f32Add, ...set(block(row, half))],
    ]),
  ]),
  ...advance(AT_A, 4 * BLOCK_COLS),
  ...advance(AT_B, 4 * BLOCK_ROWS),
];

/** sum += the squares of the two lower f32 of a vector. */
function addSquares(row: number, values: Code): Code {
  const widen = [...values, ...v128.lowerAsF64, ...set(FACTOR)];
  const square = [...get(FACTOR), ...get(FACTOR), ...v128.f64Multiply];
  return [...widen, ...get(sum(row)), ...square, ...v128.f64Add, ...set(sum(row))];
}

const COLUMN_BLOCK: Code = [
  ...ROWS.flatMap((row) => [
    ...HALVES.flatMap((half) => [...v128.load(atW(row), 16 * half), ...set(block(row, half))]),
    ...advance(atW(row), 4 * BLOCK_COLS),
  ]),
  ...[...get(B), ...set(AT_B), ...get(RANK), ...set(RANK_LEFT)],
  ...loop(RANK_LEFT, ADD_RANK),
  ...ROWS.flatMap((row) =>
    HALVES.flatMap((half) => [
      ...addSquares(row, get(block(row, half))),
      ...addSquares(row, v128.getUpper(block(row, half))),
    ]),
  ),
];

const ROW_BLOCK: Code = [
  ...ROWS.flatMap((row) => [
    ...[...get(W), ...set(atW(row)), ...get(W), ...get(ROW_BYTES), ...i32.add, ...set(W)],
    ...[...v128.zero, ...set(sum(row))],
  ]),
  ...[...get(A), ...set(AT_A), ...get(COL_BLOCKS), ...set(COLS_LEFT)],
  ...loop(COLS_LEFT, COLUMN_BLOCK),
  ...ROWS.flatMap((row) => [
    ...[...get(OUT), ...get(sum(row)), ...v128.f64Lane(0), ...get(sum(row)), ...v128.f64Lane(1)],
    ...[...f64.add, ...f64.store(8 * row)],
  ]),
  ...advance(OUT, 8 * BLOCK_ROWS),
  ...[...get(B), ...get(RANK), ...i32.constant(4), ...i32.shiftLeft, ...i32.add, ...set(B)],
];

const BYTES = moduleBytes({
  parameters: PARAMETERS,
  i32Locals: I32_LOCALS,
  v128Locals: V128_LOCALS,
  body: loop(ROW_BLOCKS, ROW_BLOCK),
});

/** null where the machine has no SIMD for WebAssembly. */
const MODULE = WebAssembly.validate(BYTES) ? new WebAssembly.Module(BYTES) : null;

export interface RowLengthKernel extends Kernel {
  /**
   * Offsets in bytes: a [colBlocks, rank, 8], b [rowBlocks, rank, 4] and w [4 * rowBlocks, rowBytes / 4] of f32, out [4 * rowBlocks] of
   * f64. Counts are 1 or more.
   */
  run(
    a: number,
    b: number,
    w: number,
    out: number,
    colBlocks: number,
    rank: number,
    rowBytes: number,
    rowBlocks: number,
  ): void;
}

/** With a memory of its own. */
export function openRowLengthKernel(): RowLengthKernel | null {
  return MODULE === null ? null : (new WebAssembly.Instance(MODULE).exports as RowLengthKernel);
}
