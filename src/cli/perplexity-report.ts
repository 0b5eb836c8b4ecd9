// `convert --report`: what the conversion costs, as perplexity of a text before and after. Both models run on the same engine.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config.js';
import { GatewayError } from '../errors.js';
import { absentAsNull } from '../model/absent-file.js';
import { MAX_WINDOW, perplexity, windowsOf, type Perplexity } from './perplexity.js';
import { ProgressUi } from './progress.js';
import type { Main, OpenModel } from './serve.js';
import type { Terminal } from './terminal.js';

/**
 * Converts the source to 32-bit floats in a temporary folder, runs the text through that and through the model in `folder`, and
 * prints both perplexities and their ratio. Throws invalid_value for a text that cannot be read or is too short.
 */
export async function reportPerplexity(
  folder: string,
  textFile: string,
  config: Config,
  terminal: Terminal,
  main: Main,
): Promise<void> {
  const text = await readText(textFile);
  const ui = new ProgressUi(terminal.stderr);
  const interrupt = new AbortController();
  const stop = terminal.onInterrupt(() => interrupt.abort());
  const temporary = await mkdtemp(join(tmpdir(), 'perplexity-'));
  const measure = async (label: string, modelFolder: string): Promise<Perplexity> =>
    measureModel(modelFolder, text, { label, config, main, ui, signal: interrupt.signal, textFile });
  try {
    const after = await measure(config.weights, folder);
    const source = await main.prepareModel({ ...config, weights: 'f32' }, ui, temporary);
    const before = await measure('f32', source);
    terminal.stdout.write(reportText(before, after, config.weights));
  } finally {
    stop();
    await rm(temporary, { recursive: true, force: true });
  }
}

export function reportText(before: Perplexity, after: Perplexity, weights: string): string {
  return [
    `perplexity of ${after.numTokens} tokens in ${after.numWindows} windows`,
    `  source, f32     ${before.value.toFixed(4)}`,
    `  converted, ${weights.padEnd(4)} ${after.value.toFixed(4)}`,
    `  ratio           ${(after.value / before.value).toFixed(4)}`,
    '',
  ].join('\n');
}

interface Measurement {
  readonly label: string;
  readonly config: Config;
  readonly main: Main;
  readonly ui: ProgressUi;
  readonly signal: AbortSignal;
  readonly textFile: string;
}

async function measureModel(folder: string, text: string, measurement: Measurement): Promise<Perplexity> {
  const { label, config, main, ui, signal, textFile } = measurement;
  const longest = Math.min(config.context ?? MAX_WINDOW, MAX_WINDOW);
  const model: OpenModel = await main.openModel(folder, {
    ...config,
    slots: 1,
    context: longest + 1,
    prefixCache: false,
  });
  try {
    const window = Math.min(longest, model.base.architecture.contextLength);
    const windows = windowsOf(model.tokenizer.encode(text), window);
    if (windows.length === 0)
      throw new GatewayError('invalid_value', `Expected ${textFile} to hold two tokens or more`, {
        param: 'report',
      });
    return await perplexity(model.engine, windows, signal, (done) =>
      ui.log(`perplexity, ${label}: ${done} of ${windows.length} windows`),
    );
  } finally {
    await model.dispose();
  }
}

async function readText(path: string): Promise<string> {
  const text = await absentAsNull(readFile(path, 'utf8'));
  if (text !== null) return text;
  throw new GatewayError('invalid_value', `Expected \`report\` to be a text file, got \`${path}\``, {
    param: 'report',
  });
}
