// Registers and removes adapters without end, saying before each change what it will do and after it what was acknowledged, until it kills
// itself before one of its file operations. Started by adapters-crash.test.ts.
import { writeSync } from 'node:fs';
import files from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const [dataDir, opsToLive] = process.argv.slice(2);

let numOps = 0;
/** Every file operation of the store goes through one of these; the n-th is the last thing that this process attempts. */
for (const name of ['mkdir', 'open', 'rename', 'rm', 'readFile'] as const) {
  const original = files[name];
  const counted = (...parameters: unknown[]): unknown => {
    if (numOps++ === Number(opsToLive)) process.kill(process.pid, 'SIGKILL');
    return Reflect.apply(original, files, parameters);
  };
  Object.assign(files, { [name]: counted });
}
syncBuiltinESMExports();

const { createAdapterService } = await import('../../src/adapters/service.js');
const { adapterFiles, fixtureBase, fixtureConfig, peftFiles, readTensors } =
  await import('./adapter-fixtures.js');

const say = (line: string) => writeSync(1, `${line}\n`);
const weights = readTensors(adapterFiles('llama-tied', 'lora-qv-r8').get('adapter_model.safetensors')!);
const config = fixtureConfig('llama-tied', 'lora-qv-r8');
const adapters = await createAdapterService({
  dataDir: dataDir!,
  base: fixtureBase('llama-tied'),
  cacheBytes: 1 << 20,
  keptVersions: 2,
  runPrompt: () => Promise.reject(new Error('no prompts here')),
});
const service = adapters.of('default');
say('ready');
// The same contents as any process before: what a crash left of them is in the way of the next registration, or is not.
for (let index = 0; ; index++) {
  const name = `n${index % 3}`;
  if (index % 7 === 6) {
    say(`try remove ${name}`);
    await service.remove(name);
    say(`done remove ${name}`);
    continue;
  }
  const upload = peftFiles({ ...config, revision: `${index}` }, weights);
  say(`try register ${name}`);
  const { version, hash } = await service.register(name, upload);
  say(`done register ${name} ${version} ${hash}`);
}
