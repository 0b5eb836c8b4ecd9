// LoHa and LoKr as PEFT stores them, rewritten exactly as low-rank products, so that they are served like any LoRA.
// LoHa: (A1 B1) * (A2 B2) elementwise; LoKr: W1 (x) W2, each whole or itself a product. Reference: peft/tuners/loha, peft/tuners/lokr.

import { projectionShape } from '../model/architecture.js';
import { WEIGHTS_FILE } from './adapter-files.js';
import { type AdapterBase, type Site } from './base.js';
import { type ConfigFields, countField, numberField } from './config-fields.js';
import { denseDelta, identity, isZero, lowRankDelta, type Matrix, product } from './low-rank.js';
import { type AdapterTensor, ofAdapter, ofBase, type PeftTensors } from './peft-tensors.js';
import { baseMismatch, invalidAdapter, shapeText, unsupportedAdapter } from './refusal.js';
import { ranksAndAlphas, type SitePlan } from './site-plan.js';
import { targetSites } from './target-modules.js';
import type { LoraDelta } from './types.js';

/** Of an equivalent low-rank product: beyond this a full matrix would be cheaper. */
export const MAX_PRODUCT_RANK = 256;

export function planLycoris(
  method: 'LOHA' | 'LOKR',
  fields: ConfigFields,
  tensors: PeftTensors,
  base: AdapterBase,
): readonly SitePlan[] {
  const targets = targetSites(fields, base.architecture, ['q_proj', 'v_proj']);
  const defaults = { rank: countField(fields, 'r', 8), alpha: numberField(fields, 'alpha', 8) };
  const scales = ranksAndAlphas(fields, targets, defaults);
  const plan = method === 'LOHA' ? planLoha : planLokr;
  return targets.map((site, index) => {
    const { rank, alpha } = scales[index]!;
    const delta = plan(site, rank, alpha / rank, tensors, base);
    const build = () => {
      const lora = delta();
      return Promise.resolve({ lora: isZero(lora.a) || isZero(lora.b) ? null : lora, affine: null });
    };
    return { site, build };
  });
}

type Planner = (
  site: Site,
  rank: number,
  scale: number,
  tensors: PeftTensors,
  base: AdapterBase,
) => () => LoraDelta;

const planLoha: Planner = (site, rank, scale, tensors, base) => {
  const [out, input] = projectionShape(base.architecture, site.projection);
  const left = (name: string) =>
    matrixOf(tensors.take(`${site.module}.${name}`, [ofBase(out), ofAdapter(rank)]));
  const right = (name: string) =>
    matrixOf(tensors.take(`${site.module}.${name}`, [ofAdapter(rank), ofBase(input)]));
  const factors = [left('hada_w1_a'), right('hada_w1_b'), left('hada_w2_a'), right('hada_w2_b')] as const;
  checkRank(`${site.module}.hada_w1_a`, Math.min(rank * rank, out, input));
  return () => {
    const [leftA, rightA, leftB, rightB] = [factors[0](), factors[1](), factors[2](), factors[3]()];
    if (rank * rank <= Math.min(out, input))
      return lowRankDelta(columnProducts(leftA, leftB), rowProducts(rightA, rightB), scale);
    const first = product(leftA, rightA);
    const second = product(leftB, rightB);
    const data = Float64Array.from(first.data, (value, index) => value * second.data[index]!);
    return denseDelta({ rows: out, cols: input, data }, scale);
  };
};

const planLokr: Planner = (site, rank, scale, tensors, base) => {
  const [out, input] = projectionShape(base.architecture, site.projection);
  const first = kroneckerFactor(site, 'lokr_w1', rank, tensors);
  const second = kroneckerFactor(site, 'lokr_w2', rank, tensors);
  const shape = [first.rows * second.rows, first.cols * second.cols];
  if (shape[0] !== out || shape[1] !== input)
    throw baseMismatch(
      `${WEIGHTS_FILE}: the factors of ${site.module} make a matrix of shape ${shapeText(shape)}, the base has ${shapeText([out, input])}; this adapter was trained on a model of other sizes`,
      first.key,
    );
  checkRank(first.key, first.rank * second.rank);
  return () => {
    const [leftA, rightA] = first.split();
    const [leftB, rightB] = second.split();
    return lowRankDelta(kronecker(leftA, leftB), kronecker(rightA, rightB), scale);
  };
};

interface KroneckerFactor {
  readonly key: string;
  readonly rows: number;
  readonly cols: number;
  readonly rank: number;
  /** [rows, rank] and [rank, cols], whose product it is. */
  split(): readonly [Matrix, Matrix];
}

function kroneckerFactor(site: Site, name: string, rank: number, tensors: PeftTensors): KroneckerFactor {
  const whole = tensors.takeAny(`${site.module}.${name}`);
  if (whole !== null) {
    const [rows, cols] = matrixShape(whole);
    const read = matrixOf(whole);
    const split = () => splitWhole(read());
    return { key: whole.key, rows, cols, rank: Math.min(rows, cols), split };
  }
  const [a, b] = [tensors.takeAny(`${site.module}.${name}_a`), tensors.takeAny(`${site.module}.${name}_b`)];
  if (a === null || b === null)
    throw invalidAdapter(
      `${WEIGHTS_FILE}: ${site.module} has neither \`${name}\` nor both of \`${name}_a\` and \`${name}_b\`, though the configuration asks for them; save the adapter again`,
      `base_model.model.${site.module}.${name}`,
    );
  const [rows] = matrixShape(a);
  const [, cols] = matrixShape(b);
  tensors.take(`${site.module}.${name}_a`, [ofAdapter(rows), ofAdapter(rank)]);
  tensors.take(`${site.module}.${name}_b`, [ofAdapter(rank), ofAdapter(cols)]);
  const [readA, readB] = [matrixOf(a), matrixOf(b)];
  const isThin = rank <= Math.min(rows, cols);
  const split = () => (isThin ? ([readA(), readB()] as const) : splitWhole(product(readA(), readB())));
  return { key: a.key, rows, cols, rank: Math.min(rank, rows, cols), split };
}

function splitWhole(matrix: Matrix): readonly [Matrix, Matrix] {
  return matrix.rows <= matrix.cols ? [identity(matrix.rows), matrix] : [matrix, identity(matrix.cols)];
}

function matrixShape({ key, shape }: AdapterTensor): readonly [number, number] {
  const [rows, cols] = shape;
  if (shape.length !== 2 || rows === undefined || cols === undefined || rows * cols === 0)
    throw invalidAdapter(
      `${WEIGHTS_FILE}: Expected \`${key}\` to have shape [rows, columns], got ${shapeText(shape)}`,
      key,
    );
  return [rows, cols];
}

function matrixOf(tensor: AdapterTensor): () => Matrix {
  const [rows, cols] = matrixShape(tensor);
  return () => ({ rows, cols, data: tensor.read() });
}

function checkRank(key: string, rank: number): void {
  if (rank <= MAX_PRODUCT_RANK) return;
  throw unsupportedAdapter(
    `\`${key}\`: as a low-rank product this update has rank ${rank}, served are at most ${MAX_PRODUCT_RANK}; train with a smaller r`,
    key,
  );
}

/** [m, p] and [m, q] -> [m, p * q]: column (i, j) is the elementwise product of columns i and j. */
function columnProducts(first: Matrix, second: Matrix): Matrix {
  const { rows } = first;
  const cols = first.cols * second.cols;
  const data = new Float64Array(rows * cols);
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < first.cols; i++)
      for (let j = 0; j < second.cols; j++)
        data[row * cols + i * second.cols + j] =
          first.data[row * first.cols + i]! * second.data[row * second.cols + j]!;
  return { rows, cols, data };
}

/** [p, n] and [q, n] -> [p * q, n]: row (i, j) is the elementwise product of rows i and j. */
function rowProducts(first: Matrix, second: Matrix): Matrix {
  const { cols } = first;
  const rows = first.rows * second.rows;
  const data = new Float64Array(rows * cols);
  for (let i = 0; i < first.rows; i++)
    for (let j = 0; j < second.rows; j++)
      for (let col = 0; col < cols; col++)
        data[(i * second.rows + j) * cols + col] = first.data[i * cols + col]! * second.data[j * cols + col]!;
  return { rows, cols, data };
}

/** [a, b] and [c, d] -> [a * c, b * d] with entry (i * c + k, j * d + l) = first(i, j) * second(k, l). */
function kronecker(first: Matrix, second: Matrix): Matrix {
  const rows = first.rows * second.rows;
  const cols = first.cols * second.cols;
  const data = new Float64Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    const i = Math.floor(row / second.rows);
    const k = row % second.rows;
    for (let col = 0; col < cols; col++) {
      const j = Math.floor(col / second.cols);
      const l = col % second.cols;
      data[row * cols + col] = first.data[i * first.cols + j]! * second.data[k * second.cols + l]!;
    }
  }
  return { rows, cols, data };
}
