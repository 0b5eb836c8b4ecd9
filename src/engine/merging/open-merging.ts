// Merging over an open engine: the controller, its clock, and the folder that merges are made in.

import { readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { OpenEngine } from '../open-engine.js';
import { MergeController, type MergeOptions } from './merge-controller.js';

export interface OpenMerging {
  readonly controller: MergeController;
  /** Before the engine is disposed. */
  close(): Promise<void>;
}

export type MergingOptions = Omit<MergeOptions, 'slot' | 'isBusy' | 'folder'> & {
  readonly artifactFolder: string;
};

const TICK_MS = 1_000;
const FOLDER_PREFIX = 'merged-';

export function openMerging({ engine, mergedSlot }: OpenEngine, options: MergingOptions): OpenMerging {
  // Beside the base's packed weights, which a form links to.
  const folder = join(options.artifactFolder, `${FOLDER_PREFIX}${process.pid}`);
  removeAbandoned(options.artifactFolder, folder);
  const controller = new MergeController({
    ...options,
    folder,
    slot: mergedSlot,
    isBusy: () => {
      const { numRunning, numWaiting } = engine.stats();
      return numRunning + numWaiting > 0;
    },
  });
  engine.onRequest = (adapter) => controller.requested(adapter);
  let ticking: Promise<void> = Promise.resolve();
  let isTicking = false;
  const timer = setInterval(() => {
    if (isTicking) return;
    isTicking = true;
    ticking = controller
      .tick()
      .catch((error: unknown) => options.log('merging failed', { error: String(error) }))
      .finally(() => (isTicking = false));
  }, TICK_MS).unref();
  return {
    controller,
    close: async () => {
      clearInterval(timer);
      engine.onRequest = null;
      await ticking;
      await controller.close();
    },
  };
}

/** What processes that are gone have left. Where one of another machine is still there, its mapped files stay with it. */
function removeAbandoned(artifactFolder: string, own: string): void {
  for (const name of readdirSync(artifactFolder)) {
    if (!name.startsWith(FOLDER_PREFIX)) continue;
    if (name === basename(own) || !isAlive(Number(name.slice(FOLDER_PREFIX.length))))
      rmSync(join(artifactFolder, name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
