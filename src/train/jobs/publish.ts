// What a run that succeeded leaves to the server: the best checkpoint as an adapter under the job's name, and the others that were kept
// under theirs, all of the job's tenant, each through the validation of an upload. A full fine-tuning leaves a folder.

import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { adapterFiles, CONFIG_FILE, hashAdapter } from '../../adapters/adapter-files.js';
import { readAdapterFolder } from '../../adapters/adapter-folder.js';
import { hasErrorCode } from '../../adapters/error-code.js';
import { createPacer } from '../../adapters/pacer.js';
import type { TenantAdapters } from '../../adapters/protocol.js';
import { ADAPTER_FOLDER } from '../checkpoint.js';
import { checkpointName } from './ids.js';
import { type StoredJob, toJob } from './job-state.js';
import type { Records, StoredCheckpoint } from './records.js';

export interface Adapters {
  of(tenant: string): Publisher;
}

type Publisher = Pick<TenantAdapters, 'get' | 'register'>;

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
  const own = adapters.of(job.tenant);
  await register(own, job.tenant, job.model_name, best);
  for (const checkpoint of await records.storedCheckpoints(job.id)) {
    if (!(await isKept(checkpoint))) continue;
    const name = checkpointName(job.model_name, checkpoint.step);
    await register(own, job.tenant, name, adapterOf(checkpoint));
    await records.setServed(checkpoint.id);
  }
  return { fineTunedModel: job.model_name, resultFolder: null };
}

async function register(own: Publisher, tenant: string, name: string, folder: string): Promise<void> {
  const files = await readAdapterFolder(folder);
  // The name alone may mean one that is shared with the tenant.
  const current = await own.get(`${tenant}/${name}`);
  if (current?.hash === (await hashAdapter(adapterFiles(files), createPacer()))) return;
  await own.register(name, files);
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
