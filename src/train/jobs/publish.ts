// What a run that succeeded leaves to the server: the best checkpoint as an adapter under the job's name, and the others that were kept
// under theirs, each through the validation of an upload. A full fine-tuning leaves a folder.

import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { adapterFiles, CONFIG_FILE, hashAdapter } from '../../adapters/adapter-files.js';
import { readAdapterFolder } from '../../adapters/adapter-folder.js';
import { hasErrorCode } from '../../adapters/error-code.js';
import { createPacer } from '../../adapters/pacer.js';
import type { AdapterService } from '../../adapters/types.js';
import { ADAPTER_FOLDER } from '../checkpoint.js';
import { checkpointName } from './ids.js';
import { type StoredJob, toJob } from './job-state.js';
import type { Records, StoredCheckpoint } from './records.js';

export type Adapters = Pick<AdapterService, 'get' | 'register'>;

export interface Published {
  readonly fineTunedModel: string | null;
  readonly resultFolder: string | null;
}

/** @param folder the run's. Throws what AdapterService.register throws. Again is harmless: what is there already stays. */
export async function publish(
  job: StoredJob,
  folder: string,
  records: Records,
  adapters: Adapters,
): Promise<Published> {
  const best = join(folder, ADAPTER_FOLDER);
  if (toJob(job).options.method.name === 'full') return { fineTunedModel: null, resultFolder: best };
  await register(adapters, job.model_name, best);
  for (const checkpoint of await records.storedCheckpoints(job.id)) {
    if (!(await isKept(checkpoint))) continue;
    await register(adapters, checkpointName(job.model_name, checkpoint.step), adapterOf(checkpoint));
    await records.setServed(checkpoint.id);
  }
  return { fineTunedModel: job.model_name, resultFolder: null };
}

async function register(adapters: Adapters, name: string, folder: string): Promise<void> {
  const files = await readAdapterFolder(folder);
  const current = await adapters.get(name);
  if (current?.hash === (await hashAdapter(adapterFiles(files), createPacer()))) return;
  await adapters.register(name, files);
}

function adapterOf(checkpoint: StoredCheckpoint): string {
  return join(checkpoint.path, ADAPTER_FOLDER);
}

/** Runs keep their last checkpoints and the best one. */
async function isKept(checkpoint: StoredCheckpoint): Promise<boolean> {
  try {
    await access(join(adapterOf(checkpoint), CONFIG_FILE));
    return true;
  } catch (error) {
    if (hasErrorCode(error, 'ENOENT')) return false;
    throw error;
  }
}
