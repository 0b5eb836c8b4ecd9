// `plan`: what a training file's run would need, without running it; without a file, what bases of common sizes need.
import type { ConfigOf } from '../config.js';
import { measureProducts } from '../train/plan/compute.js';
import { memoryLimit } from '../train/plan/machine-memory.js';
import { sizeTable } from '../train/plan/size-table.js';
import { assertFits, sizeText, type Rate } from '../train/plan/training-plan.js';
import { ProgressUi } from './progress.js';
import type { Terminal } from './terminal.js';
import { memoryLines, planLines } from './train/plan-text.js';
import { prepareRun } from './train/prepared-run.js';
import type { TrainingTools } from './train/tools.js';
import { readTrainingFile } from './train.js';

type Tools = Pick<TrainingTools, 'prepareModel' | 'openTokenizer' | 'openBackend'>;

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
  const { plan: made } = await prepareRun(config, await rateOf(settings, tools), tools, ui);
  for (const line of [...planLines(made), ...memoryLines(made)]) terminal.stdout.write(`${line}\n`);
  assertFits(made);
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

/** What was measured on such a run wins over a product of a tenth of a second. */
async function rateOf({ tokensPerSecond, threads }: ConfigOf<'plan'>, tools: Tools): Promise<Rate> {
  if (tokensPerSecond !== null) return { kind: 'tokens', perSecond: tokensPerSecond };
  const backend = await tools.openBackend(threads);
  try {
    return {
      kind: 'products',
      operationsPerSecond: await measureProducts(backend, () => performance.now()),
    };
  } finally {
    backend.dispose();
  }
}
