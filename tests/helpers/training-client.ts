// Fine-tuning through OpenAI's own client against a running server: uploads, jobs, and waiting for them without a clock.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import type OpenAI from 'openai';
import { toFile } from 'openai';
import { type Directive, PID, trainingLines } from './fake-training-run.js';
import { BASE, type Cleanup, clientOf } from './running-server.js';

export type FineTuningJob = OpenAI.FineTuning.FineTuningJob;
type JobCreateParams = OpenAI.FineTuning.JobCreateParams & {
  /** Not of OpenAI's API; the client sends it as it is. */
  readonly x_graft?: Readonly<Record<string, unknown>>;
};

export const FAKE_RUN = pathToFileURL(join(import.meta.dirname, 'fake-training-run.ts')).href;

/** A file of 4 examples, then what the run is to do. */
export async function uploadExamples(client: OpenAI, ...directives: readonly Directive[]): Promise<string> {
  const file = await toFile(Buffer.from(trainingLines(4, ...directives)), 'train.jsonl');
  return (await client.files.create({ file, purpose: 'fine-tune' })).id;
}

/** One epoch of batches of one: 4 steps, a checkpoint each 2. */
export function createJob(
  client: OpenAI,
  trainingFile: string,
  changes: Partial<JobCreateParams> = {},
): Promise<FineTuningJob> {
  const body: JobCreateParams = {
    model: BASE,
    training_file: trainingFile,
    method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 1, batch_size: 1 } } },
    ...changes,
  };
  return client.fineTuning.jobs.create(body);
}

const MAX_POLLS = 20_000;

/** Asks until the job is as wanted; fails at once where it has ended in another way. */
export async function untilJob(
  client: OpenAI,
  id: string,
  holds: (job: FineTuningJob, step: number) => boolean,
): Promise<FineTuningJob> {
  for (let polls = 0; polls < MAX_POLLS; polls++) {
    const job = await client.fineTuning.jobs.retrieve(id);
    if (holds(job, stepOf(job))) return job;
    if (isOver(job)) assert.fail(`job ${id} has ${job.status}: ${JSON.stringify(job.error)}`);
  }
  assert.fail(`job ${id} did not become what was waited for`);
}

export function isOver({ status }: FineTuningJob): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'cancelled';
}

function stepOf(job: FineTuningJob): number {
  const { x_graft: extension } = job as FineTuningJob & { readonly x_graft: { readonly step: number } };
  return extension.step;
}

/** Messages of all events, oldest first. */
export async function messagesOf(client: OpenAI, id: string): Promise<string[]> {
  const messages: string[] = [];
  for await (const event of client.fineTuning.jobs.listEvents(id, { limit: 5 })) messages.push(event.message);
  return messages.toReversed();
}

/** The process that runs a job. */
export function workerOf(dataDir: string, jobId: string): number {
  return Number(readFileSync(join(dataDir, 'training', jobId, PID), 'utf8'));
}

export interface TrainingServer {
  readonly client: OpenAI;
  readonly url: string;
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>;
}

/** A server process with fake runs; killed after the test where it still runs. */
export async function spawnTrainingServer(cleanup: Cleanup, dataDir: string): Promise<TrainingServer> {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', join(import.meta.dirname, 'training-server-child.ts'), dataDir],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const exited = once(child, 'exit');
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    child.kill(signal);
    await exited;
  };
  cleanup.after(() => end('SIGKILL'));
  const lines = createInterface({ input: child.stdout });
  const [url] = (await Promise.race([once(lines, 'line'), once(lines, 'close')])) as [string?];
  assert(url !== undefined, 'the server listens');
  return { client: clientOf(url), url, end };
}
