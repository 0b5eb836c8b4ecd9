// Entry of a worker process: `worker.js [module with runTraining]`, started by jobs/worker-process.ts. It computes at the lowest priority
// and lives for one run.

import { constants, setPriority } from 'node:os';
import { assert } from '../errors.js';
import type { FromWorker, ToWorker } from './jobs/messages.js';
import { serveRun } from './jobs/worker-loop.js';
import type { Run } from './run-types.js';

// Nobody is left who could take the result, and another worker may be given the job: what is on disk is whole at any moment.
const abandoned = () => process.kill(process.pid, 'SIGKILL');
process.on('disconnect', abandoned);
// An interrupt from the terminal reaches the whole group; the server decides when the run ends.
process.on('SIGINT', () => {});
setPriority(constants.priority.PRIORITY_LOW);

const listeners: ((message: ToWorker) => void)[] = [];
const early: ToWorker[] = [];
// From the first moment on: a message without a listener would be lost while the trainer's modules load.
process.on('message', (message: ToWorker) => {
  if (listeners.length === 0) early.push(message);
  for (const listener of listeners) listener(message);
});

const [module = new URL('./run.js', import.meta.url).href] = process.argv.slice(2);
const { runTraining } = (await import(module)) as { runTraining: Run };
await serveRun(runTraining, {
  send,
  onMessage: (listener) => {
    listeners.push(listener);
    for (const message of early.splice(0)) listener(message);
  },
});
process.off('disconnect', abandoned);
process.disconnect();

function send(message: FromWorker): Promise<void> {
  assert(process.send !== undefined, 'a worker is started with a channel to its server');
  return new Promise((resolve, reject) => {
    process.send!(message, undefined, undefined, (error) => (error === null ? resolve() : reject(error)));
  });
}
