// The checkpoints of a run: a folder for each step, the newest of which a run goes on from. One process at a time uses them.

import { copyFile, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../errors.js';
import { renameDurably, syncFolder } from '../model/durable-files.js';
import type { AdamWState } from './adamw.js';
import {
  ADAPTER_FOLDER,
  type CheckpointContents,
  readRunState,
  readTensors,
  type RunState,
  writeCheckpoint,
} from './checkpoint.js';
import type { Parameter } from './types.js';

export interface CheckpointStore {
  pathOf(step: number): string;
  /** Durable on return; then removes all but the newest `keep` (one at least) and that of `bestStep`. */
  save(contents: CheckpointContents, keep: number, bestStep: number | null): Promise<void>;
  /**
   * Loads the newest complete checkpoint into parameters and optimizer; `warn` hears of those that are damaged. null where there is none.
   * Throws GatewayError invalid_value where it belongs to another run.
   */
  resume(
    parameters: readonly Parameter[],
    optimizer: AdamWState,
    run: Pick<RunState, 'method' | 'identity'>,
    warn: (message: string) => void,
  ): Promise<RunState | null>;
  /** Makes a checkpoint's adapter the run's own, in <run's folder>/adapter. */
  publish(step: number): Promise<void>;
}

export const CHECKPOINTS_FOLDER = 'checkpoints';
const NAME = /^step-(\d{8,})$/;

/** `folder` is the run's own. Sweeps what a crash left half-written. */
export async function openCheckpoints(folder: string): Promise<CheckpointStore> {
  const root = join(folder, CHECKPOINTS_FOLDER);
  await mkdir(root, { recursive: true });
  for (const place of [folder, root])
    for (const name of await readdir(place))
      if (name.startsWith('.tmp-')) await rm(join(place, name), { recursive: true, force: true });
  const pathOf = (step: number) => join(root, `step-${String(step).padStart(8, '0')}`);

  async function steps(): Promise<readonly number[]> {
    const names = await readdir(root);
    const found = names.flatMap((name) => NAME.exec(name)?.[1] ?? []);
    return found.map(Number).toSorted((a, b) => a - b);
  }

  /** Renamed first, so that no half of it is ever found. */
  async function discard(step: number): Promise<void> {
    const doomed = join(root, `.tmp-old-${step}`);
    await rename(pathOf(step), doomed);
    await rm(doomed, { recursive: true, force: true });
  }

  return {
    pathOf,
    async save(contents, keep, bestStep) {
      await writeCheckpoint(pathOf(contents.state.step), contents);
      const all = await steps();
      const others = all.slice(0, Math.max(0, all.length - Math.max(1, keep)));
      for (const step of others) if (step !== bestStep) await discard(step);
    },
    async resume(parameters, optimizer, run, warn) {
      for (const step of (await steps()).toReversed()) {
        try {
          const state = await readRunState(pathOf(step));
          checkSameRun(state, run, pathOf(step));
          readTensors(pathOf(step), parameters, optimizer);
          optimizer.numUpdates = state.numUpdates;
          return state;
        } catch (error) {
          const isDamaged =
            error instanceof GatewayError && (error.code === 'invalid_file' || error.code === 'not_found');
          if (!isDamaged) throw error;
          warn(`the checkpoint of step ${step} is damaged and left out: ${error.message}`);
        }
      }
      return null;
    },
    async publish(step) {
      const [fresh, old, own] = ['.tmp-adapter', '.tmp-old-adapter', ADAPTER_FOLDER].map((name) =>
        join(folder, name),
      ) as [string, string, string];
      await rm(fresh, { recursive: true, force: true });
      await mkdir(fresh);
      const from = join(pathOf(step), ADAPTER_FOLDER);
      for (const name of await readdir(from)) await copyFile(join(from, name), join(fresh, name));
      await syncFolder(fresh);
      await rm(old, { recursive: true, force: true });
      const isReplaced = (await readdir(folder)).includes(ADAPTER_FOLDER);
      if (isReplaced) await rename(own, old);
      await renameDurably(fresh, own);
      await rm(old, { recursive: true, force: true });
    },
  };
}

function checkSameRun(state: RunState, run: Pick<RunState, 'method' | 'identity'>, path: string): void {
  if (state.method === run.method && state.identity === run.identity) return;
  const reason =
    state.method === run.method
      ? 'other options, data or parameters'
      : `the method ${state.method} instead of ${run.method}`;
  throw new GatewayError(
    'invalid_value',
    `The checkpoint at ${path} was made with ${reason}; go on with those it was made with, or start in an empty folder`,
    { param: path },
  );
}
