// Trains a small model in the folder it is given, and kills itself before one of its file operations, or is killed from outside.
// Started by train-checkpoint-crash.test.ts.
import { writeSync } from 'node:fs';
import files from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const [folder, opsToLive] = process.argv.slice(2);

let numOps = 0;
/** Every file operation of checkpoints goes through one of these; the n-th is the last thing that this process attempts. */
for (const name of [
  'mkdir',
  'open',
  'rename',
  'rm',
  'writeFile',
  'readFile',
  'readdir',
  'copyFile',
] as const) {
  const original = files[name];
  const counted = (...parameters: unknown[]): unknown => {
    if (numOps++ === Number(opsToLive)) process.kill(process.pid, 'SIGKILL');
    return Reflect.apply(original, files, parameters);
  };
  Object.assign(files, { [name]: counted });
}
syncBuiltinESMExports();

const { crashRun } = await import('./crash-run.js');
const { runSmall } = await import('./training-runs.js');

const { outcome } = await runSmall(folder!, {
  ...crashRun(),
  onEvent(event) {
    if (event.type === 'step') writeSync(1, `step ${event.step}\n`);
  },
});
writeSync(1, `${outcome.kind} after ${numOps} operations\n`);
