// `pull` and `convert`: a model on this disk, downloaded and converted, without serving it.
import { cp, mkdir, readdir } from 'node:fs/promises';
import { constants } from 'node:fs';
import type { Config, ConfigOf } from '../config.js';
import { GatewayError } from '../errors.js';
import { reportPerplexity } from './perplexity-report.js';
import { ProgressUi } from './progress.js';
import type { Main } from './serve.js';
import type { Terminal } from './terminal.js';

/** Prints the converted model's folder on stdout. */
export async function pull(config: Config, terminal: Terminal, main: Main): Promise<number> {
  const folder = await main.prepareModel(config, new ProgressUi(terminal.stderr));
  terminal.stdout.write(`${folder}\n`);
  return 0;
}

/**
 * As pull; with `out`, copies the converted model there; with `report`, a text file, prints its perplexity before and after.
 * Throws invalid_value where `out` is not empty.
 */
export async function convert(
  config: Config,
  { out, report }: Pick<ConfigOf<'convert'>, 'out' | 'report'>,
  terminal: Terminal,
  main: Main,
): Promise<number> {
  if (out !== null) await assertEmpty(out);
  const folder = await main.prepareModel(config, new ProgressUi(terminal.stderr));
  if (out !== null) await cp(folder, out, { recursive: true, mode: constants.COPYFILE_FICLONE });
  terminal.stdout.write(`${out ?? folder}\n`);
  if (report !== null) await reportPerplexity(folder, report, config, terminal, main);
  return 0;
}

async function assertEmpty(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const names = await readdir(folder);
  if (names.length > 0)
    throw new GatewayError(
      'invalid_value',
      `Expected \`out\` to be a new or empty folder, got \`${folder}\` with ${names[0]} in it`,
      { param: 'out' },
    );
}
