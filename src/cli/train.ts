// `train`: a training file in, an adapter in its output_dir out, in this process.
import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { basename, join, resolve } from 'node:path';
import type { ConfigOf } from '../config.js';
import { GatewayError } from '../errors.js';
import type { Outcome } from '../train/events.js';
import { assertFits } from '../train/plan/training-plan.js';
import type { RunRequest } from '../train/run-types.js';
import { countInterrupts, INTERRUPTED, type Interrupts } from './interrupts.js';
import { ProgressUi, type Ui } from './progress.js';
import type { Terminal } from './terminal.js';
import { exampleRows } from './train/example-rows.js';
import {
  adapterFolder,
  DATA_FOLDER,
  prepareOutputFolder,
  RESULTS_FILE,
  writeWhole,
} from './train/output-folder.js';
import { planLines } from './train/plan-text.js';
import { prepareRun, type PreparedRun } from './train/prepared-run.js';
import { collectResults } from './train/results.js';
import { createRunDisplay } from './train/run-display.js';
import type { TrainingTools } from './train/tools.js';
import { readTrainingConfig, type TrainingConfig } from './yaml/training-config.js';

/** 0 when the run has ended by itself, 1 when it failed, 130 when it was interrupted; an interrupted run leaves an adapter too. */
export async function train(
  file: string,
  overrides: readonly string[],
  settings: ConfigOf<'train'>,
  terminal: Terminal,
  tools: TrainingTools,
): Promise<number> {
  const config = readTrainingFile(file, overrides, terminal);
  const ui = new ProgressUi(terminal.stderr);
  for (const note of config.notes) ui.log(note);
  const interrupts = countInterrupts(terminal);
  try {
    const prepared = await Promise.race([prepareRun(config, tools, ui), interrupts.reach(1)]);
    if (prepared === undefined) return INTERRUPTED;
    for (const line of planLines(prepared.plan)) ui.log(line);
    assertFits(prepared.plan);
    const ended = await Promise.race([
      runPrepared(
        { config, prepared, threads: settings.threads },
        interrupts,
        { ui, isTerminal: terminal.stderr.isTTY === true },
        tools,
      ),
      interrupts.reach(2),
    ]);
    return ended === undefined ? INTERRUPTED : tell(ended, config, terminal, ui);
  } finally {
    interrupts.stop();
  }
}

/** Throws GatewayError not_found where the file cannot be read, invalid_config where it has problems. */
export function readTrainingFile(
  file: string,
  overrides: readonly string[],
  { cwd }: Pick<Terminal, 'cwd'>,
): TrainingConfig {
  let text: string;
  try {
    text = readFileSync(resolve(cwd, file), 'utf8');
  } catch (cause) {
    throw new GatewayError('not_found', `The training file ${file} cannot be read: ${String(cause)}`, {
      cause,
    });
  }
  return readTrainingConfig(text, basename(file), overrides, cwd);
}

interface Request {
  readonly config: TrainingConfig;
  readonly prepared: PreparedRun;
  readonly threads: number;
}

async function runPrepared(
  { config, prepared, threads }: Request,
  interrupts: Interrupts,
  { ui, isTerminal }: { readonly ui: Ui; readonly isTerminal: boolean },
  tools: Pick<TrainingTools, 'run'>,
): Promise<Outcome> {
  const isResumed = prepareOutputFolder(config);
  if (isResumed) ui.log(`${config.outputDir} holds a run, which is taken up at its last checkpoint`);
  const request = writeRequest({ config, prepared, threads });
  const display = createRunDisplay(ui, config.loggingSteps, isTerminal);
  const collector = collectResults(prepared.plan.trainedParameters);
  void interrupts.reach(1).then(() => ui.log('ending after this step; interrupt again to end at once'));
  const outcome = await tools.run(request, {
    emit(event) {
      collector.take(event);
      display(event);
    },
    control: () => (interrupts.seen > 0 ? 'stop' : 'run'),
    // A turn of the event loop, so that interrupts arrive at all.
    yieldPoint: () => setImmediate(),
    sample: () => Promise.resolve([]),
  });
  const results = JSON.stringify(collector.results(outcome), null, 2);
  writeWhole(join(config.outputDir, RESULTS_FILE), `${results}\n`);
  return outcome;
}

/** The data as the run reads them lie in its folder. */
function writeRequest({ config, prepared, threads }: Request): RunRequest {
  const { artifactFolder, options, data } = prepared;
  const write = (name: string, rows: PreparedRun['data']['training']['rows']) => {
    const path = join(config.outputDir, DATA_FOLDER, name);
    writeWhole(path, exampleRows(rows.map(({ example }) => example)));
    return { path, name };
  };
  return {
    artifactFolder,
    options,
    trainingFiles: [write('train.jsonl', data.training.rows)],
    validationFile: data.validation === null ? null : write('validation.jsonl', data.validation.rows),
    folder: config.outputDir,
    threads,
  };
}

function tell(outcome: Outcome, config: TrainingConfig, { stdout, stderr }: Terminal, ui: Ui): number {
  if (outcome.kind === 'failed') {
    stderr.write(`${outcome.message} (${outcome.code} at step ${outcome.step})\n`);
    return 1;
  }
  const ends = { finished: 'finished', early_stopped: 'ended early', stopped: 'interrupted' };
  ui.log(`${ends[outcome.kind]} at step ${outcome.step}; the best is step ${outcome.bestStep}`);
  const folder = adapterFolder(config.outputDir);
  if (folder !== null) {
    stdout.write(`${folder}\n`);
    ui.log(
      config.options.method.name === 'full'
        ? `serve it: graft serve --model ${folder}`
        : `serve it: graft serve --model ${config.model} --adapter ${adapterName(config.outputDir)}=${folder}\n` +
            `or add it to a running server: graft adapters add ${adapterName(config.outputDir)} ${folder}`,
    );
  }
  return outcome.kind === 'stopped' ? INTERRUPTED : 0;
}

/** The folder's name in the letters that an adapter's may have. */
function adapterName(outputDir: string): string {
  const name = basename(outputDir).replaceAll(/[^A-Za-z0-9._:-]/g, '-');
  return /^[A-Za-z0-9]/.test(name) ? name.slice(0, 128) : `adapter-${name}`.slice(0, 128);
}
