// One checkpoint on disk: everything that decides the rest of a run, and the adapter as it is.
//   state.json, parameters.safetensors, first-moments.safetensors, second-moments.safetensors, adapter/<the method's files>
// A checkpoint's folder appears whole and durable, or not at all: it is written under a temporary name, synced and renamed.

import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { invalidFile } from '../formats/invalid-file.js';
import { readSafetensorsHeader, readTensorF32, writeSafetensors } from '../formats/safetensors.js';
import { renameDurably, syncFolder } from '../model/durable-files.js';
import { type FileSource, openFileSource } from '../model/file-source.js';
import type { AdamWState } from './adamw.js';
import type { EarlyStopping } from './early-stopping.js';
import type { RunHistory } from './monitor/run-history.js';
import type { Parameter } from './types.js';

const FORMAT = 1;
const STATE_FILE = 'state.json';
const PARAMETERS_FILE = 'parameters.safetensors';
const FIRST_MOMENTS_FILE = 'first-moments.safetensors';
const SECOND_MOMENTS_FILE = 'second-moments.safetensors';
/** The folder in a checkpoint, and in a run's own folder, that can be served. */
export const ADAPTER_FOLDER = 'adapter';

/** All of a run's state but its tensors. Randomness is a function of `seed` and the place in the data: it has no state of its own. */
export interface RunState {
  readonly method: string;
  /** Of the options, the data and the parameters' shapes: what may not change in between. */
  readonly identity: string;
  readonly seed: number;
  /** Steps done. */
  readonly step: number;
  /** The next micro-batch. */
  readonly epoch: number;
  readonly microBatch: number;
  /** Of the optimizer: steps without a supervised token make none. */
  readonly numUpdates: number;
  readonly earlyStopping: EarlyStopping;
  readonly trainLoss: number | null;
  readonly evalLoss: number | null;
  /** Supervised tokens so far. */
  readonly numSupervised: number;
  /** The step's evaluation was due, and was broken off. */
  readonly owesEvaluation: boolean;
  readonly elapsedMs: number;
  readonly history: RunHistory;
}

export interface CheckpointContents {
  readonly state: RunState;
  readonly parameters: readonly Parameter[];
  readonly optimizer: AdamWState;
  readonly adapterFiles: ReadonlyMap<string, Uint8Array>;
}

/** Durable on return. Replaces what is there. */
export async function writeCheckpoint(path: string, contents: CheckpointContents): Promise<void> {
  const { state, parameters, optimizer, adapterFiles } = contents;
  const fresh = join(dirname(path), `.tmp-${basename(path)}`);
  await rm(fresh, { recursive: true, force: true });
  await mkdir(join(fresh, ADAPTER_FOLDER), { recursive: true });
  const tensors = (values: readonly Float32Array[]) =>
    writeSafetensors(
      new Map(parameters.map(({ name, shape }, index) => [name, { shape, data: values[index]! }])),
    );
  await writeFile(join(fresh, PARAMETERS_FILE), tensors(parameters.map(({ values }) => values)));
  await writeFile(join(fresh, FIRST_MOMENTS_FILE), tensors(optimizer.firstMoments));
  await writeFile(join(fresh, SECOND_MOMENTS_FILE), tensors(optimizer.secondMoments));
  await writeFile(join(fresh, STATE_FILE), JSON.stringify({ format: FORMAT, ...state }));
  for (const [name, bytes] of adapterFiles) await writeFile(join(fresh, ADAPTER_FOLDER, name), bytes);
  await syncFolder(join(fresh, ADAPTER_FOLDER));
  await syncFolder(fresh);
  const old = `${fresh}-old`;
  if (existsSync(path)) await rename(path, old);
  await renameDurably(fresh, path);
  await rm(old, { recursive: true, force: true });
}

/** Throws GatewayError invalid_file where there is none that can be read. */
export async function readRunState(path: string): Promise<RunState> {
  let state: { readonly format: unknown } & RunState;
  try {
    state = JSON.parse(await readFile(join(path, STATE_FILE), 'utf8'));
  } catch (cause) {
    throw invalidFile(join(path, STATE_FILE), `cannot be read: ${String(cause)}`, cause);
  }
  if (state.format !== FORMAT)
    throw invalidFile(
      join(path, STATE_FILE),
      `has format ${String(state.format)}, expected ${FORMAT}; it was written by another version`,
    );
  return state;
}

/**
 * Puts the values and moments in place. Throws GatewayError invalid_file or not_found, before anything is changed, where a file is missing,
 * damaged, or of other parameters.
 */
export function readTensors(path: string, parameters: readonly Parameter[], optimizer: AdamWState): void {
  const targets: readonly (readonly [string, readonly Float32Array[]])[] = [
    [PARAMETERS_FILE, parameters.map(({ values }) => values)],
    [FIRST_MOMENTS_FILE, optimizer.firstMoments],
    [SECOND_MOMENTS_FILE, optimizer.secondMoments],
  ];
  const sources: FileSource[] = [];
  try {
    for (const [name] of targets) {
      const source = openFileSource(join(path, name));
      sources.push(source);
      checkTensors(source, parameters);
    }
    for (const [at, [, values]] of targets.entries()) copyTensors(sources[at]!, parameters, values);
  } finally {
    for (const source of sources) source.close();
  }
}

function checkTensors(source: FileSource, parameters: readonly Parameter[]): void {
  const { tensors } = readSafetensorsHeader(source);
  const describe = (shape: readonly number[] | undefined) => (shape ? `[${shape.join(', ')}]` : 'nothing');
  for (const { name, shape } of parameters) {
    const found = tensors.get(name)?.shape;
    if (describe(found) !== describe(shape))
      throw invalidFile(
        source.name,
        `Expected \`${name}\` to have shape ${describe(shape)}, got ${describe(found)}`,
      );
  }
  if (tensors.size !== parameters.length)
    throw invalidFile(source.name, `Expected ${parameters.length} tensors, got ${tensors.size}`);
}

function copyTensors(
  source: FileSource,
  parameters: readonly Parameter[],
  values: readonly Float32Array[],
): void {
  const { tensors } = readSafetensorsHeader(source);
  for (const [index, { name }] of parameters.entries())
    values[index]!.set(readTensorF32(source, tensors.get(name)!));
}
