// Perplexity of a text over an engine with known probabilities, and `convert --report` over a model that is made up.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { perplexity, windowsOf } from '../../src/cli/perplexity.js';
import { runCli } from '../../src/cli/program.js';
import type { Main, OpenModel } from '../../src/cli/serve.js';
import type { Config } from '../../src/config.js';
import type { Engine, GenerationEvent } from '../../src/engine/types.js';
import { fakeTerminal } from '../helpers/fake-terminal.js';

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'perplexity-test-'));
});
after(() => rmSync(folder, { recursive: true }));

/** Every token has probability 1 / `choices`. */
function uniformEngine(choices: number, seen: number[] = []): Pick<Engine, 'generate'> {
  return {
    async *generate({ promptTokens, promptLogprobs }): AsyncGenerator<GenerationEvent, void, undefined> {
      assert.equal(promptLogprobs, true);
      seen.push(promptTokens.length);
      yield {
        type: 'prompt',
        numCachedTokens: 0,
        promptLogprobs: promptTokens.map((token, i) =>
          i === 0 ? null : { token, logprob: -Math.log(choices), top: [] },
        ),
      };
      assert.fail('nothing is wanted after the prompt');
    },
  };
}

test('windows do not overlap, and a lone last token is left out', () => {
  assert.deepEqual(windowsOf([1, 2, 3, 4, 5], 2), [
    [1, 2],
    [3, 4],
  ]);
  assert.deepEqual(windowsOf([1, 2, 3], 8), [[1, 2, 3]]);
  assert.deepEqual(windowsOf([1], 8), []);
});

test('a uniform model has its number of choices as perplexity', async () => {
  const { value, ...counts } = await perplexity(
    uniformEngine(50),
    [
      [1, 2, 3],
      [4, 5],
    ],
    new AbortController().signal,
  );
  assert(Math.abs(value - 50) < 1e-9);
  assert.deepEqual(counts, { numWindows: 2, numTokens: 3 });
});

test('convert --report runs the text on the f32 source and on the converted weights', async () => {
  const text = join(folder, 'text.txt');
  writeFileSync(text, 'abcdefghij');
  const opened: string[] = [];
  const windows: number[] = [];
  let temporary = '';
  let disposed = 0;
  const main: Main = {
    startServer: () => Promise.reject(new Error('no server')),
    prepareModel: ({ weights }: Config, _ui, convertedFolder) => {
      temporary = convertedFolder ?? temporary;
      return Promise.resolve(convertedFolder === undefined ? '/converted' : `/source-${weights}`);
    },
    openModel: (path, config) => {
      opened.push(`${path} ${config.slots} ${config.context}`);
      const engine = uniformEngine(path === '/converted' ? 51 : 50, windows);
      return Promise.resolve({
        engine,
        base: { architecture: { contextLength: 4 } },
        tokenizer: { encode: (value: string) => Array.from(value, (letter) => letter.charCodeAt(0)) },
        dispose: () => Promise.resolve(void disposed++),
      } as unknown as OpenModel);
    },
  };
  const terminal = fakeTerminal({}, folder);
  const argv = ['convert', 'model.gguf', '--report', 'text.txt'];
  assert.equal(await runCli(argv, terminal, () => Promise.resolve(main)), 0);
  assert.deepEqual(opened, ['/converted 1 1025', '/source-f32 1 1025']);
  assert.deepEqual(windows, [4, 4, 2, 4, 4, 2]);
  assert.equal(disposed, 2);
  assert.equal(
    terminal.out(),
    '/converted\n' +
      'perplexity of 7 tokens in 3 windows\n' +
      '  source, f32     50.0000\n' +
      '  converted, q4   51.0000\n' +
      '  ratio           1.0200\n',
  );
  assert.throws(() => readdirSync(temporary), { code: 'ENOENT' });
});

test('a text that is not there or too short is refused by name', async () => {
  const main = {
    prepareModel: () => Promise.resolve('/converted'),
    openModel: () =>
      Promise.resolve({
        base: { architecture: { contextLength: 64 } },
        tokenizer: { encode: () => [1] },
        dispose: () => Promise.resolve(),
      }),
  } as unknown as Main;
  const terminal = fakeTerminal({}, folder);
  const run = (file: string) =>
    runCli(['convert', 'm', '--report', file], terminal, () => Promise.resolve(main));
  assert.equal(await run('absent.txt'), 1);
  writeFileSync(join(folder, 'short.txt'), 'x');
  assert.equal(await run('short.txt'), 1);
  assert.equal(
    terminal.err(),
    `Expected \`report\` to be a text file, got \`${join(folder, 'absent.txt')}\`\n` +
      `Expected ${join(folder, 'short.txt')} to hold two tokens or more\n`,
  );
});
