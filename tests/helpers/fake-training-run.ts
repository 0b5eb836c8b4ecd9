// A run without a trainer, under the protocol of a run: it counts steps, writes checkpoints whose adapter is a fixture, and goes on from
// the newest. Lines {"do": ...} of the training file make it wait, ask for samples, fail or die.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
  appendFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { GatewayError } from '../../src/errors.js';
import { ADAPTER_FOLDER } from '../../src/train/checkpoint.js';
import { type Run, type RunHooks, type RunRequest, TRAINER_LOG } from '../../src/train/run-types.js';

export type Directive =
  /** Waits before this step until the file GO is in the run's folder. */
  | { readonly do: 'wait'; readonly step: number }
  | { readonly do: 'sample'; readonly step: number }
  /** Ends the process before this step. */
  | { readonly do: 'die'; readonly step: number }
  /** The loss of this step is not finite. */
  | { readonly do: 'diverge'; readonly step: number };

export const GO = 'go';
/** Names the file in the run's folder that says which process runs it. */
export const PID = 'pid';
const FIXTURE = join(import.meta.dirname, '..', 'fixtures', 'adapters', 'llama-tied', 'lora-qv-r8');
const ADAPTER_FILES = ['adapter_config.json', 'adapter_model.safetensors'];

export const runTraining: Run = async (request, hooks) => {
  const { directives, numExamples } = readExamples(request);
  const { options, folder } = request;
  writeFileSync(join(folder, PID), String(process.pid));
  const totalSteps = Math.min(
    options.maxSteps ?? Infinity,
    Math.ceil(numExamples / (options.batchSize * options.accumulation)) * options.epochs,
  );
  let step = newestCheckpoint(folder);
  if (step > 0) hooks.emit({ type: 'message', level: 'info', message: `Resumed from step ${step}` });
  const at = (kind: Directive['do']) => directives.some((line) => line.do === kind && line.step === step + 1);
  while (step < totalSteps) {
    if (at('die')) process.kill(process.pid, 'SIGKILL');
    if (at('wait')) await untilGo(folder, hooks);
    const control = hooks.control();
    if (control !== 'run') {
      if (control !== 'cancel' && step > 0) saveCheckpoint(request, hooks, step);
      return { kind: 'stopped', step, bestStep: step };
    }
    await hooks.yieldPoint();
    if (at('sample')) await sample(hooks, step + 1);
    const loss = at('diverge') ? NaN : 1 / (step + 1);
    step++;
    tellStep(request, hooks, step, totalSteps, loss);
    if (step % (options.saveSteps ?? 2) === 0 || step === totalSteps) saveCheckpoint(request, hooks, step);
  }
  copyAdapter(join(folder, ADAPTER_FOLDER));
  return { kind: 'finished', step, bestStep: step };
};

function readExamples({ trainingFiles }: RunRequest) {
  const directives: Directive[] = [];
  let numExamples = 0;
  for (const { path, name } of trainingFiles)
    for (const [index, line] of readFileSync(path, 'utf8').split('\n').entries()) {
      if (line.trim() === '') continue;
      const row = parseRow(line, index + 1, name);
      if ('do' in row) directives.push(row);
      else numExamples++;
    }
  return { directives, numExamples };
}

function parseRow(line: string, row: number, name: string): Directive | { readonly messages: unknown } {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new GatewayError('invalid_file', `Expected row ${row} of ${name} to be JSON: ${String(cause)}`, {
      param: 'training_file',
      cause,
    });
  }
}

function newestCheckpoint(folder: string): number {
  const steps = readdirSync(folder).flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? []);
  return Math.max(0, ...steps.map(Number));
}

async function untilGo(folder: string, hooks: RunHooks): Promise<void> {
  while (hooks.control() === 'run' && !existsSync(join(folder, GO))) await delay(5);
}

function saveCheckpoint({ folder }: RunRequest, hooks: RunHooks, step: number): void {
  const path = join(folder, `step-${step}`);
  if (existsSync(path)) return;
  const fresh = join(folder, `.tmp-${process.pid}-${step}`);
  copyAdapter(join(fresh, ADAPTER_FOLDER));
  renameSync(fresh, path);
  hooks.emit({ type: 'checkpoint', step, path, trainLoss: 1 / step, evalLoss: 2 / step });
}

function copyAdapter(target: string): void {
  mkdirSync(target, { recursive: true });
  for (const file of ADAPTER_FILES) writeFileSync(join(target, file), readFileSync(join(FIXTURE, file)));
}

function tellStep(
  request: RunRequest,
  hooks: RunHooks,
  step: number,
  totalSteps: number,
  loss: number,
): void {
  appendFileSync(join(request.folder, TRAINER_LOG), `${JSON.stringify({ current_steps: step, loss })}\n`);
  hooks.emit({
    type: 'step',
    step,
    totalSteps,
    epoch: 1,
    loss,
    learningRate: request.options.learningRate,
    gradNorm: 0.5,
    numSupervised: 10,
    tokensPerSecond: 100,
    elapsedS: step,
    remainingS: totalSteps - step,
    preference: null,
  });
  hooks.emit({ type: 'eval', step, epoch: 1, loss: 2 * loss, isBest: true, preference: null });
}

async function sample(hooks: RunHooks, step: number): Promise<void> {
  const files = new Map(
    ADAPTER_FILES.map((file) => [file, new Uint8Array(readFileSync(join(FIXTURE, file)))]),
  );
  hooks.emit({ type: 'sample', step, samples: await hooks.sample(step, files) });
}

/** The lines of a training file: so many examples, then what the run is to do. */
export function trainingLines(numExamples: number, ...directives: readonly Directive[]): string {
  const example = {
    messages: [
      { role: 'user', content: 'hi' },
      { role: 'assistant', content: 'ho' },
    ],
  };
  const rows = [...Array.from({ length: numExamples }, () => example), ...directives];
  return rows.map((row) => `${JSON.stringify(row)}\n`).join('');
}
