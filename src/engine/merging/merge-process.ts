// The server's side of a merge: a child process at the lowest priority that can be ended at any moment. Its crash is the end of the
// merge and of nothing else.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FormReport } from '../../adapters/merging/report.js';
import type { MergedForm } from '../../model/merged/merged-model.js';
import type { MergeOrder } from './merge-run.js';

export type FromMerge =
  | { readonly type: 'report'; readonly report: FormReport }
  | { readonly type: 'done'; readonly form: MergedForm | null };

export interface MergeProcess {
  /** The form whose folder is left, or null; rejects where the process ended before. Settles after it has gone. */
  readonly result: Promise<MergedForm | null>;
  kill(): void;
}

export type StartMerge = (order: MergeOrder, onReport: (report: FormReport) => void) => MergeProcess;

const ERROR_TAIL_LENGTH = 2_000;

export const startMergeProcess: StartMerge = (order, onReport) => {
  const isSource = import.meta.url.endsWith('.ts');
  const entry = new URL(isSource ? './worker.ts' : './worker.js', import.meta.url);
  const child = fork(fileURLToPath(entry), [], {
    // Sources run through tsx, as this process does.
    execArgv: isSource ? ['--import', import.meta.resolve('tsx')] : [],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let errors = '';
  let form: MergedForm | null | undefined;
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-ERROR_TAIL_LENGTH);
  });
  child.on('message', (message) => {
    const told = message as FromMerge;
    if (told.type === 'report') onReport(told.report);
    else form = told.form;
  });
  const result = new Promise<MergedForm | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (form !== undefined) resolve(form);
      else reject(new Error(`the merge ended with ${signal ?? `exit code ${code}`}: ${errors.trim()}`));
    });
  });
  // One that has gone tells so by its end.
  child.send(order, () => {});
  return { result, kill: () => void child.kill('SIGKILL') };
};
