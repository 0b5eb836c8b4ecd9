// Between blocks and head: the rows of a group that predict a label, and their gradients put back.

import type { RowGroup } from './batch-layout.js';
import type { HeadRows } from './graphs/head-runner.js';

/** Of the blocks' output [B*S, H]. */
export function predictingRows(output: Float32Array, { predicting, labels, tokens }: RowGroup): HeadRows {
  const hiddenSize = output.length / tokens.length;
  const hidden = new Float32Array(predicting.length * hiddenSize);
  predicting.forEach((row, i) =>
    hidden.set(output.subarray(row * hiddenSize, (row + 1) * hiddenSize), i * hiddenSize),
  );
  return { hidden, labels };
}

/** Writes [B*S, H] of a gradient [predicting, H]: zero where nothing is predicted. */
export function spreadRows(
  rows: Float32Array,
  { predicting, tokens }: RowGroup,
  out: Float32Array,
): Float32Array {
  const hiddenSize = out.length / tokens.length;
  out.fill(0);
  predicting.forEach((row, i) =>
    out.set(rows.subarray(i * hiddenSize, (i + 1) * hiddenSize), row * hiddenSize),
  );
  return out;
}

export function joinRows(parts: readonly HeadRows[]): HeadRows {
  const hidden = joinArrays(parts.map((part) => part.hidden));
  const labels = new Int32Array(parts.reduce((size, part) => size + part.labels.length, 0));
  let row = 0;
  for (const part of parts) {
    labels.set(part.labels, row);
    row += part.labels.length;
  }
  return { hidden, labels };
}

export function joinArrays(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Multiplies each row in place by its weight. */
export function weighRows(rows: Float32Array, weights: Float32Array): Float32Array {
  const hiddenSize = rows.length / Math.max(1, weights.length);
  weights.forEach((weight, row) => {
    for (let i = row * hiddenSize; i < (row + 1) * hiddenSize; i++) rows[i]! *= weight;
  });
  return rows;
}
