// `plan`: what a training file's run would need, without running it; without a file, what bases of common sizes need.
import type { ConfigOf } from '../config.js';
import { memoryLimit } from '../train/plan/machine-memory.js';
import { sizeTable } from '../train/plan/size-table.js';
import { assertFits, sizeText } from '../train/plan/training-plan.js';
import { ProgressUi } from './progress.js';
import type { Terminal } from './terminal.js';
import { memoryLines, planLines, timeLine } from './train/plan-text.js';
import { prepareRun } from './train/prepared-run.js';
import type { TrainingTools } from './train/tools.js';
import { readTrainingFile } from './train.js';

type Tools = Pick<TrainingTools, 'prepareModel' | 'openTokenizer' | 'measureTrial'>;

/** Throws GatewayError insufficient_memory, after the plan is printed, where the run would not fit. */
export async function plan(
  file: string,
  overrides: readonly string[],
  settings: ConfigOf<'plan'>,
  terminal: Terminal,
  tools: Tools,
): Promise<number> {
  const config = readTrainingFile(file, overrides, terminal);
  const ui = new ProgressUi(terminal.stderr);
  for (const note of config.notes) ui.log(note);
  const prepared = await prepareRun(config, tools, ui);
  const { plan: made } = prepared;
  const print = (lines: readonly string[]): void =>
    lines.forEach((line) => terminal.stdout.write(`${line}\n`));
  print([...planLines(made), ...memoryLines(made)]);
  assertFits(made);
  if (settings.tokensPerSecond === null) ui.log('measuring a step of the run');
  const rate = settings.tokensPerSecond ?? (await tools.measureTrial(prepared, settings.threads));
  print([timeLine(made, rate)]);
  return 0;
}

/** Bases of 7 to 70 thousand million parameters, by method, with what of it this machine holds. */
export function planTable({ stdout }: Terminal): number {
  const limit = memoryLimit();
  stdout.write(`memory of a run with rows of 1 x 1024 tokens; this machine has ${sizeText(limit)}\n`);
  for (const { base, method, bitsPerParameter, weightBytes, neededBytes } of sizeTable())
    stdout.write(
      `${base.padEnd(18)} ${method.padEnd(6)} ${bitsPerParameter.toFixed(3).padStart(7)} bits  ` +
        `base ${sizeText(weightBytes).padStart(9)}  run ${sizeText(neededBytes).padStart(9)}${neededBytes <= limit ? '  fits' : ''}\n`,
    );
  return 0;
}
