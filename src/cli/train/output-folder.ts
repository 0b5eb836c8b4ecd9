// A run's folder before and after it: what an earlier run left there is taken up, refused or removed; what the run made is found again.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { GatewayError } from '../../errors.js';
import { ADAPTER_FOLDER } from '../../train/checkpoint.js';
import { CHECKPOINTS_FOLDER } from '../../train/checkpoint-store.js';
import { TENSORBOARD_FOLDER } from '../../train/reporter.js';
import { TRAINER_LOG } from '../../train/run-types.js';
import type { TrainingConfig } from '../yaml/training-config.js';

export const DATA_FOLDER = 'data';
export const RESULTS_FILE = 'all_results.json';

/** What a run writes, and nothing else. */
const OWN = [CHECKPOINTS_FOLDER, ADAPTER_FOLDER, DATA_FOLDER, TENSORBOARD_FOLDER, TRAINER_LOG, RESULTS_FILE];

/**
 * Makes the folder ready; returns whether the run goes on from a checkpoint. With `overwriteOutputDir` what an earlier run wrote goes.
 * Throws GatewayError invalid_value where `resume_from_checkpoint` names no checkpoint or not the newest, and where the folder holds an
 * adapter without a checkpoint to go on from.
 */
export function prepareOutputFolder(
  config: Pick<TrainingConfig, 'outputDir' | 'overwriteOutputDir' | 'resumeFrom'>,
): boolean {
  const { outputDir, overwriteOutputDir, resumeFrom } = config;
  mkdirSync(outputDir, { recursive: true });
  const newest = newestCheckpoint(outputDir);
  if (resumeFrom !== null && newest === null)
    throw refused(
      `Expected a checkpoint in ${join(outputDir, CHECKPOINTS_FOLDER)}, there is none; leave \`resume_from_checkpoint\` out`,
    );
  if (resumeFrom !== null && resumeFrom !== 'newest' && !isSame(resumeFrom.folder, newest!))
    throw refused(
      `Expected \`resume_from_checkpoint\` to be the newest checkpoint of \`output_dir\`, ${newest}, got ${resumeFrom.folder}; move newer ones away to go on from an earlier one`,
    );
  if (resumeFrom !== null) return true;
  if (overwriteOutputDir)
    for (const name of OWN) rmSync(join(outputDir, name), { recursive: true, force: true });
  else if (newest === null && existsSync(join(outputDir, ADAPTER_FOLDER)))
    throw refused(
      `${outputDir} holds an adapter and no checkpoint to go on from; set \`overwrite_output_dir: true\`, or name another \`output_dir\``,
    );
  return newest !== null && !overwriteOutputDir;
}

/** The folder to serve: the run's own, or null where it left none. */
export function adapterFolder(outputDir: string): string | null {
  const folder = join(outputDir, ADAPTER_FOLDER);
  return existsSync(folder) ? folder : null;
}

/** Whole or not at all. */
export function writeWhole(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.tmp`, text);
  renameSync(`${path}.tmp`, path);
}

function newestCheckpoint(outputDir: string): string | null {
  const root = join(outputDir, CHECKPOINTS_FOLDER);
  const names = existsSync(root) ? readdirSync(root).filter((name) => !name.startsWith('.')) : [];
  const newest = names.toSorted().at(-1);
  return newest === undefined ? null : join(root, newest);
}

function isSame(a: string, b: string): boolean {
  return join(a, '.') === join(b, '.');
}

function refused(message: string): GatewayError {
  return new GatewayError('invalid_value', message, { param: 'output_dir' });
}
