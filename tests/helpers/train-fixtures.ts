// The training references (tests/fixtures/train, made with PEFT and PyTorch), and small batches.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IGNORED, type TrainingBatch } from '../../src/data/types.js';
import { bytesSource } from '../../src/formats/byte-source.js';
import { readSafetensorsHeader, readTensorF32 } from '../../src/formats/safetensors.js';
import type { Parameter } from '../../src/train/types.js';
import { FIXTURES } from './tiny-model.js';

const TRAIN = join(FIXTURES, 'train');

export interface MicroBatch {
  readonly input_ids: readonly (readonly number[])[];
  readonly attention_mask: readonly (readonly number[])[];
  readonly labels: readonly (readonly number[])[];
}

export interface ReferenceStep {
  readonly loss: number;
  readonly microbatch_mean_loss: readonly number[];
  readonly grad_norm: number;
}

export interface SftReference {
  readonly microbatches: readonly MicroBatch[];
  readonly runs: Readonly<Record<'tokens' | 'means', { readonly steps: readonly ReferenceStep[] }>>;
  readonly first_step_grad_l2: Readonly<Record<string, number>>;
}

export interface DpoReference {
  readonly beta: number;
  readonly prompt_len: number;
  readonly chosen: readonly number[];
  readonly rejected: readonly number[];
  readonly policy_chosen_logp: number;
  readonly policy_rejected_logp: number;
  readonly ref_chosen_logp: number;
  readonly ref_rejected_logp: number;
  readonly reward_chosen: number;
  readonly reward_rejected: number;
  readonly margin: number;
  readonly loss: number;
  readonly grad_norm: number;
}

export function dpoReference(): DpoReference {
  return readReference('dpo.json') as DpoReference;
}

export function readReference(name: string): unknown {
  return JSON.parse(readFileSync(join(TRAIN, name), 'utf8'));
}

export function readTensors(name: string): ReadonlyMap<string, Float32Array> {
  const source = bytesSource(name, new Uint8Array(readFileSync(join(TRAIN, name))));
  const { tensors } = readSafetensorsHeader(source);
  return new Map([...tensors].map(([key, tensor]) => [key, readTensorF32(source, tensor)]));
}

export function setParameters(
  parameters: readonly Parameter[],
  values: ReadonlyMap<string, Float32Array>,
): void {
  for (const parameter of parameters) parameter.values.set(values.get(parameter.name)!);
}

export function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

export function totalNorm(parameters: readonly Parameter[]): number {
  return Math.hypot(...parameters.map(({ gradient }) => norm(gradient)));
}

/** Examples of tokens; labels default to the tokens but the first. Each inner list is a row of segments. */
export interface Segment {
  readonly tokens: readonly number[];
  readonly labels?: readonly number[];
}

export function batchOf(rows: readonly (readonly Segment[])[], numTokens?: number): TrainingBatch {
  const length =
    numTokens ?? Math.max(...rows.map((row) => row.reduce((sum, { tokens }) => sum + tokens.length, 0)));
  const size = rows.length * length;
  const batch = {
    numRows: rows.length,
    numTokens: length,
    tokens: new Int32Array(size),
    labels: new Int32Array(size).fill(IGNORED),
    segments: new Int32Array(size),
    positions: new Int32Array(size),
  };
  rows.forEach((row, index) => {
    let at = index * length;
    row.forEach(({ tokens, labels = [IGNORED, ...tokens.slice(1)] }, segment) => {
      batch.tokens.set(tokens, at);
      batch.labels.set(labels, at);
      batch.segments.fill(segment + 1, at, at + tokens.length);
      batch.positions.set(
        tokens.map((_, i) => i),
        at,
      );
      at += tokens.length;
    });
  });
  return batch;
}

/** A micro-batch of a reference, without its padding. */
export function referenceBatch({ input_ids, attention_mask, labels }: MicroBatch): TrainingBatch {
  return batchOf(
    input_ids.map((ids, row) => {
      const length = attention_mask[row]!.filter((each) => each === 1).length;
      return [{ tokens: ids.slice(0, length), labels: labels[row]!.slice(0, length) }];
    }),
    input_ids[0]!.length,
  );
}
