// The training service over a temporary folder, with workers in this process that do a given run, and short ways to wait for jobs.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'libsql';
import { Kysely, SqliteDialect } from 'kysely';
import type { CheckQuota } from '../../src/tenants/check-quota.js';
import type { FromWorker, ToWorker } from '../../src/train/jobs/messages.js';
import type { Adapters } from '../../src/train/jobs/publish.js';
import type { NewJob } from '../../src/train/jobs/queue.js';
import { createTrainingService } from '../../src/train/jobs/service.js';
import type { TrainingDatabase, TrainingSchema } from '../../src/train/jobs/tables.js';
import type { Job, JobRequest, TenantTraining } from '../../src/train/jobs/types.js';
import { DEFAULT_TENANT } from '../../src/tenants/types.js';
import { serveRun } from '../../src/train/jobs/worker-loop.js';
import type { StartWorker } from '../../src/train/jobs/worker-process.js';
import type { Run, Sample } from '../../src/train/run-types.js';
import { FakeAdapters } from './fake-adapters.js';
import { runTraining } from './fake-training-run.js';
import type { Cleanup } from './running-server.js';

/** It goes with the process: services that are still closing may use it. */
export function memoryDatabase(): TrainingDatabase {
  return new Kysely<TrainingSchema>({ dialect: new SqliteDialect({ database: new Database(':memory:') }) });
}

/** A row for the queue. */
export function newJob(id: string, changes: Partial<NewJob> = {}): NewJob {
  return {
    id,
    tenant: 'default',
    base: 'tiny',
    model_name: `ft:tiny::${id}`,
    metadata: '{}',
    options: '{}',
    learning_rate_multiplier: 1,
    training_file: 'file-a',
    training_hash: 'a',
    training_filename: 'a.jsonl',
    validation_file: null,
    validation_hash: null,
    validation_filename: null,
    ...changes,
  };
}

/** A worker that is no process: messages are cloned, and kill() makes it silent. */
export function workerHere(run: Run): StartWorker {
  return (onMessage) => {
    let listener: ((message: ToWorker) => void) | null = null;
    const early: ToWorker[] = [];
    let isKilled = false;
    let end: (how: string) => void = () => {};
    const ended = new Promise<string>((resolve) => {
      end = resolve;
    });
    const deliver = (message: FromWorker) => {
      if (!isKilled) onMessage(structuredClone(message));
    };
    void serveRun(run, {
      send: async (message) => {
        await new Promise((resolve) => setImmediate(resolve));
        deliver(message);
      },
      onMessage: (given) => {
        listener = given;
        for (const message of early.splice(0)) given(message);
      },
    }).then(() => end('ended with exit code 0'));
    return {
      pid: null,
      ended,
      send: (message) => {
        const clone = structuredClone(message);
        setImmediate(() => {
          if (listener === null) early.push(clone);
          else listener(clone);
        });
      },
      kill: () => {
        isKilled = true;
        end('was ended by SIGKILL');
      },
    };
  };
}

export interface TestTrainingOptions {
  readonly run?: Run;
  readonly startWorker?: StartWorker;
  readonly isBusy?: () => boolean;
  readonly samples?: readonly Sample[] | Error;
  readonly dataDir?: string;
  readonly database?: TrainingDatabase;
  readonly checkQuota?: CheckQuota;
  readonly keepFoldersMs?: number;
  /** Where results are published; a fake where it is absent. */
  readonly publishTo?: Adapters;
}

export async function testTraining(cleanup: Cleanup, options: TestTrainingOptions = {}) {
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'training-'));
  const adapters = new FakeAdapters();
  const logged: string[] = [];
  const log = (message: string, fields?: object) => void logged.push(`${message} ${JSON.stringify(fields)}`);
  const time = { nowMs: 1_700_000_000_000 };
  const database = options.database ?? memoryDatabase();
  const service = await createTrainingService({
    database,
    dataDir,
    artifactFolder: '/none',
    base: { name: 'tiny', baseHash: '0123456789abcdef', contextLength: 8192 },
    adapters: options.publishTo ?? adapters,
    ...(options.checkQuota === undefined ? {} : { checkQuota: options.checkQuota }),
    ...(options.keepFoldersMs === undefined ? {} : { keepFoldersMs: options.keepFoldersMs }),
    threads: 1,
    yielding: { isOn: true, minShare: 0 },
    isBusy: options.isBusy ?? (() => false),
    sample: async () => {
      const { samples = [] } = options;
      if (samples instanceof Error) throw samples;
      return samples;
    },
    startWorker: options.startWorker ?? workerHere(options.run ?? runTraining),
    clock: () => time.nowMs,
    log: { info: log, warn: log, error: log },
  });
  // Most tests are about one tenant.
  const training = { ...service.of(DEFAULT_TENANT), ...service };
  cleanup.after(async () => {
    await training.close();
    rmSync(dataDir, { recursive: true, force: true });
  });
  return { training, adapters, dataDir, database, logged, time };
}

export async function addFile(training: Pick<TenantTraining, 'files'>, text: string, name = 'train.jsonl') {
  return training.files.add(name, 'fine-tune', new Blob([text]).stream());
}

export function jobRequest(trainingFile: string, changes: Partial<JobRequest> = {}): JobRequest {
  return {
    trainingFile,
    validationFile: null,
    suffix: null,
    metadata: {},
    adapterName: null,
    choices: {
      method: { name: 'lora' },
      batchSize: 1,
      epochs: 1,
      learningRateMultiplier: 'auto',
      dpo: { beta: 'auto' },
    },
    ...changes,
  };
}

const MAX_TURNS = 1_000_000;

/** Asks on each turn of the event loop until the job is as wanted. */
export async function untilJob(
  training: Pick<TenantTraining, 'get'>,
  id: string,
  holds: (job: Job) => boolean,
): Promise<Job> {
  for (let turn = 0; turn < MAX_TURNS; turn++) {
    const job = await training.get(id);
    if (holds(job)) return job;
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.fail(`job ${id} did not become what was waited for`);
}

export const isOver = ({ status }: Job) => ['succeeded', 'failed', 'cancelled'].includes(status);
