// Entry of a merge's process, started by merge-process.ts: one order in, reports out, a folder left behind.

import { constants, setPriority } from 'node:os';
import { assert } from '../../errors.js';
import type { FromMerge } from './merge-process.js';
import { runMerge, type MergeOrder } from './merge-run.js';

// Nobody is left who could use the result.
const abandoned = () => process.kill(process.pid, 'SIGKILL');
process.on('disconnect', abandoned);
// An interrupt from the terminal reaches the whole group; the server decides when the merge ends.
process.on('SIGINT', () => {});
setPriority(constants.priority.PRIORITY_LOW);

const order = await new Promise<MergeOrder>((resolve) => process.once('message', resolve));
const form = await runMerge(
  order,
  (report) => send({ type: 'report', report }),
  () => performance.now(),
);
process.off('disconnect', abandoned);
send({ type: 'done', form });
process.disconnect();

function send(message: FromMerge): void {
  assert(process.send !== undefined, 'a merge is started with a channel to its server');
  process.send(message);
}
