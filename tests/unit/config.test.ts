// The option table: defaults, the order of sources, and every problem told with its value and place.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { format, resolveConfig } from 'prettier';
import { configurationDocs } from '../../src/cli/configuration-docs.js';
import { optionsOf, readConfig, type ConfigSources } from '../../src/cli/read-config.js';
import { envName, fileKey, flagName, type Config } from '../../src/config.js';
import { GatewayError } from '../../src/errors.js';

const cwd = mkdtempSync(join(tmpdir(), 'config-'));
after(() => rmSync(cwd, { recursive: true }));

function read(sources: Partial<ConfigSources> = {}): Config {
  return readConfig('serve', { flags: {}, env: {}, file: null, cwd, ...sources });
}

function problems(sources: Partial<ConfigSources>): string[] {
  try {
    read(sources);
  } catch (error) {
    assert(error instanceof GatewayError && error.code === 'invalid_config', String(error));
    return error.message.split('\n');
  }
  assert.fail('Expected problems');
}

function configFile(content: unknown): string {
  writeFileSync(join(cwd, 'graft.json'), typeof content === 'string' ? content : JSON.stringify(content));
  return 'graft.json';
}

test('the defaults', () => {
  assert.deepEqual(read(), {
    model: 'SmolLM2-135M-Instruct',
    weights: 'q4',
    adapter: [],
    host: '127.0.0.1',
    port: 8080,
    slots: 16,
    context: null,
    ropeScaling: null,
    prefillChunk: 128,
    queue: 256,
    dataDir: join(cwd, 'data'),
    threads: availableParallelism(),
    adapterCacheMb: 1024,
    merge: true,
    mergeIdleSeconds: 60,
    mergeMaxKl: 10,
    mergeMinTop1: 99,
    mergeFreeMb: 512,
    adapterVersions: 5,
    maxUploadMb: 512,
    allowRuntimeLora: false,
    runtimeLoraDir: null,
    prefixCache: true,
    loraPath: 'grouped',
    kernels: 'auto',
    promptLookup: true,
    trainThreads: availableParallelism(),
    trainYield: true,
    trainMinShare: 10,
    trainKeepDays: 30,
    logLevel: 'info',
  } satisfies Config);
});

test('a flag goes before the environment, that before the file, that before the default', () => {
  const file = configFile({ slots: 2, port: 2, queue: 2 });
  const config = read({ file, env: { GRAFT_SLOTS: '3', GRAFT_PORT: '3' }, flags: { slots: '4' } });
  assert.deepEqual([config.slots, config.port, config.queue, config.prefillChunk], [4, 3, 2, 128]);
});

test('the file may be named by the environment, and the flag goes before it', () => {
  configFile({ slots: 2 });
  writeFileSync(join(cwd, 'other.json'), '{"slots": 5}');
  assert.equal(read({ env: { GRAFT_CONFIG: 'graft.json' } }).slots, 2);
  assert.equal(read({ env: { GRAFT_CONFIG: 'graft.json' }, file: 'other.json' }).slots, 5);
});

test('each kind is read from text and from JSON', () => {
  const adapter = [
    { name: 'a', path: join(cwd, 'x=y') },
    { name: 'b', path: '/abs' },
  ];
  const wanted = { adapter, prefixCache: false, runtimeLoraDir: join(cwd, 'loras'), allowRuntimeLora: true };
  const pick = ({ adapter: pairs, prefixCache, runtimeLoraDir, allowRuntimeLora }: Config) => ({
    adapter: pairs,
    prefixCache,
    runtimeLoraDir,
    allowRuntimeLora,
  });
  const flags = {
    adapter: ['a=x=y', 'b=/abs'],
    prefixCache: 'off',
    runtimeLoraDir: 'loras',
    allowRuntimeLora: true,
  };
  assert.deepEqual(pick(read({ flags })), wanted);
  const env = {
    GRAFT_ADAPTER: 'a=x=y,b=/abs',
    GRAFT_PREFIX_CACHE: 'off',
    GRAFT_RUNTIME_LORA_DIR: 'loras',
    GRAFT_ALLOW_RUNTIME_LORA: 'on',
  };
  assert.deepEqual(pick(read({ env })), wanted);
  const file = configFile({
    adapter: { a: 'x=y', b: '/abs' },
    'prefix-cache': false,
    'runtime-lora-dir': 'loras',
    'allow-runtime-lora': 'on',
  });
  assert.deepEqual(pick(read({ file })), wanted);
});

test('the settings cannot be changed', () => {
  const config = read({ flags: { adapter: ['a=b'] } });
  assert(Object.isFrozen(config) && Object.isFrozen(config.adapter) && Object.isFrozen(config.adapter[0]));
});

test('all problems of all sources are told at once, each with its value and place', () => {
  const file = configFile({ slots: 0, 'prefix-cache': 'yes', slot: 3 });
  assert.deepEqual(
    problems({
      file,
      env: { GRAFT_PORT: 'http', GRAFT_SLOTZ: '1', GRAFT_HOST: '' },
      flags: { weights: 'q5', adapter: ['legal'], threads: '1.5', context: '-1' },
      problems: ['Unknown flag --bogus'],
    }),
    [
      'Unknown flag --bogus',
      'Unknown environment variable GRAFT_SLOTZ; did you mean GRAFT_SLOTS?',
      'Unknown key `slot` in graft.json; did you mean slots?',
      'Expected `weights` to be q4, q8 or f32, got `q5` (flag --weights)',
      'Expected `adapter` to be NAME=PATH, each name once, got `["legal"]` (flag --adapter)',
      'Expected `port` to be an integer from 0 to 65535, got `http` (environment GRAFT_PORT)',
      'Expected `slots` to be an integer from 1 to 256, got `0` (key slots in graft.json)',
      'Expected `context` to be an integer from 16 to 1048576, got `-1` (flag --context)',
      'Expected `threads` to be an integer from 1 to 1024, got `1.5` (flag --threads)',
      'Expected `prefix-cache` to be on or off, got `yes` (key prefix-cache in graft.json)',
    ],
  );
});

test('options that contradict each other', () => {
  assert.match(
    problems({ flags: { allowRuntimeLora: true } })[0]!,
    /^Expected `runtime-lora-dir` to be given with/,
  );
  assert.match(
    problems({ flags: { runtimeLoraDir: 'x' } })[0]!,
    /^Expected `allow-runtime-lora` to be on with `runtime-lora-dir`/,
  );
  assert.deepEqual(problems({ flags: { prefillChunk: '512' }, env: { GRAFT_CONTEXT: '256' } }), [
    'Expected `prefill-chunk` to be at most `context`, got 512 and 256',
  ]);
  assert.equal(read({ flags: { context: '64' } }).prefillChunk, 128);
  assert.match(problems({ flags: { adapter: ['a=x', 'a=y'] } })[0]!, /each name once/);
});

test('a config file that cannot be read', () => {
  assert.match(
    problems({ file: 'none.json' })[0]!,
    /^Expected the config file none\.json to be readable JSON: .*ENOENT/,
  );
  assert.match(problems({ file: configFile('{') })[0]!, /to be readable JSON: SyntaxError/);
  assert.deepEqual(problems({ file: configFile('[1]') }), [
    'Expected the config file graft.json to hold a JSON object, got `[1]`',
  ]);
});

test('other commands ignore what serve alone knows, but not what nobody knows', () => {
  const file = configFile({ slots: 'many', url: 'http://localhost:1' });
  const chat = readConfig('chat', { flags: {}, env: { GRAFT_SYSTEM: 'Be brief.' }, file, cwd });
  assert.deepEqual(chat, { url: 'http://localhost:1', apiKey: null, chatModel: null, system: 'Be brief.' });
  assert.throws(() => readConfig('chat', { flags: {}, env: {}, file: configFile({ no: 1 }), cwd }), {
    message: 'Unknown key `no` in graft.json',
  });
});

test('names follow from the key, and no command has one flag twice', () => {
  assert.equal(fileKey('adapterCacheMb'), 'adapter-cache-mb');
  assert.equal(envName('adapterCacheMb'), 'GRAFT_ADAPTER_CACHE_MB');
  for (const command of ['serve', 'pull', 'convert', 'adapters', 'chat'] as const) {
    const flags = optionsOf(command).map(flagName);
    assert.deepEqual(new Set(flags).size, flags.length, command);
  }
});

test('docs/configuration.md is what the table says (node --import tsx scripts/configuration-docs.mjs writes it)', async () => {
  const path = join(import.meta.dirname, '..', '..', 'docs', 'configuration.md');
  const wanted = await format(configurationDocs(), { ...(await resolveConfig(path)), filepath: path });
  assert.equal(readFileSync(path, 'utf8'), wanted);
});
