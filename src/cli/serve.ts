// `serve`: starts the server, says where it listens, and ends it in order when told to.
import type { AdapterBase } from '../adapters/base.js';
import type { Config } from '../config.js';
import type { ModelRunner } from '../engine/model-runner.js';
import type { Engine } from '../engine/types.js';
import type { TextTokenizer } from '../tokenizer/types.js';
import { countInterrupts, INTERRUPTED } from './interrupts.js';
import { ProgressUi, type Ui } from './progress.js';
import type { Terminal } from './terminal.js';

/** Of a model that runs in this process: what commands compute with. */
export interface OpenModel {
  readonly name: string;
  readonly base: AdapterBase;
  readonly tokenizer: TextTokenizer;
  readonly engine: Engine;
  readonly runner: ModelRunner;
  dispose(): Promise<void>;
}

export interface RunningServer {
  readonly url: string;
  /** Lets requests under way finish. */
  close(): Promise<void>;
}

/** What the commands need of main.ts. */
export interface Main {
  startServer(config: Config, ui: Ui): Promise<RunningServer>;
  /** Downloads and converts the model once, into `convertedFolder` where it is given; returns the folder of the converted one. */
  prepareModel(config: Config, ui: Ui, convertedFolder?: string): Promise<string>;
  /** A converted model with an engine over it, without a server. */
  openModel(folder: string, config: Config): Promise<OpenModel>;
}

/** Runs until an interrupt: 0 after an orderly end, 130 when told again or before the server was ready. */
export async function serve(config: Config, terminal: Terminal, main: Main): Promise<number> {
  const ui = new ProgressUi(terminal.stderr);
  const interrupts = countInterrupts(terminal);
  try {
    const server = await Promise.race([main.startServer(config, ui), interrupts.reach(1)]);
    if (server === undefined) return INTERRUPTED;
    terminal.stdout.write(`listening on ${server.url}\n`);
    await interrupts.reach(1);
    ui.log('finishing the requests under way; interrupt again to end at once');
    const closed = server.close().then(() => 0);
    return (await Promise.race([closed, interrupts.reach(2)])) ?? INTERRUPTED;
  } finally {
    interrupts.stop();
  }
}
