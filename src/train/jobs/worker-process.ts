// The server's side of a worker process: starting it, talking to it, and knowing when and how it ended.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FromWorker, ToWorker } from './messages.js';

export interface WorkerProcess {
  /** Null where it could not be started. */
  readonly pid: number | null;
  send(message: ToWorker): void;
  /** At once: what the worker has on disk is whole at any moment. */
  kill(): void;
  /** How it ended, for people, with the last lines of its standard error. All its messages have come before. */
  readonly ended: Promise<string>;
}

export type StartWorker = (onMessage: (message: FromWorker) => void) => WorkerProcess;

const ERROR_TAIL_LENGTH = 2_000;

/** @param runModule URL of the module that exports runTraining; null is the trainer itself */
export function workerStarter(runModule: string | null): StartWorker {
  const entry = new URL(import.meta.url.endsWith('.ts') ? '../worker.ts' : '../worker.js', import.meta.url);
  // Sources run through tsx, as this process does.
  const execArgv = entry.href.endsWith('.ts') ? ['--import', import.meta.resolve('tsx')] : [];
  return (onMessage) => start(fileURLToPath(entry), runModule, execArgv, onMessage);
}

function start(
  entry: string,
  runModule: string | null,
  execArgv: string[],
  onMessage: (message: FromWorker) => void,
): WorkerProcess {
  const child = fork(entry, runModule === null ? [] : [runModule], {
    execArgv,
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let errors = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-ERROR_TAIL_LENGTH);
  });
  child.on('message', (message) => onMessage(message as FromWorker));
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`could not be started (${error.message})`));
    child.once('close', (code, signal) => {
      const tail = errors.trim();
      const how = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
      resolve(tail === '' ? how : `${how}, saying: ${tail}`);
    });
  });
  return {
    pid: child.pid ?? null,
    send(message) {
      // A worker that has gone tells so by its end.
      if (child.connected) child.send(message, () => {});
    },
    kill: () => void child.kill('SIGKILL'),
    ended,
  };
}
