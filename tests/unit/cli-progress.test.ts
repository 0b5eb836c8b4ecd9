// Progress on a terminal and in a log file.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProgressUi } from '../../src/cli/progress.js';
import { collector } from '../helpers/fake-terminal.js';

test('without a terminal there is a line for each tenth, once', () => {
  const collected = collector();
  const { stream } = collected;
  const ui = new ProgressUi(stream);
  for (const done of [1e6, 5e6, 9e6, 10e6, 10.5e6, 39e6, 100e6, 100e6]) ui.progress('a.gguf', done, 100e6);
  ui.log('done');
  ui.progress('b.json', 10, 10);
  assert.equal(
    collected.text(),
    'a.gguf: 10 % of 100.0 MB\na.gguf: 30 % of 100.0 MB\na.gguf: 100 % of 100.0 MB\ndone\nb.json: 100 % of 0.0 MB\n',
  );
});

test('on a terminal the bar redraws in place, at most ten times a second, and logs go below it', () => {
  const collected = collector();
  const { stream } = collected;
  let now = 0;
  const ui = new ProgressUi(Object.assign(stream, { isTTY: true, columns: 60 }), () => now);
  ui.progress('a.gguf', 0, 100e6);
  now = 50;
  ui.progress('a.gguf', 10e6, 100e6);
  now = 1000;
  ui.progress('a.gguf', 50e6, 100e6);
  ui.log('slow');
  now = 2000;
  ui.progress('a.gguf', 100e6, 100e6);
  assert.equal(
    collected.text(),
    `\r\x1b[K${'░'.repeat(24)} 0.0/100.0 MB a.gguf` +
      `\r\x1b[K${'█'.repeat(12)}${'░'.repeat(12)} 50.0/100.0 MB 50.0 MB/s a.gguf` +
      '\nslow\n' +
      `\r\x1b[K${'█'.repeat(24)} 100.0/100.0 MB 50.0 MB/s a.gguf\n`,
  );
});
