// Merged weights against the unmerged path, on the product's own runs: drift over probe prompts, and the time of steps.

import { DriftMeter, type Drift } from '../../adapters/merging/drift.js';
import type { Gain } from '../../adapters/merging/report.js';
import type { LoraAdapter } from '../../adapters/types.js';
import type { ModelRunner } from '../model-runner.js';
import type { MergedWeights } from './merged-weights.js';

export interface CheckedRun {
  readonly runner: ModelRunner;
  readonly adapter: LoraAdapter;
  readonly merged: MergedWeights;
}

/** Of the prompt, and of the rows of steps, that are timed. */
export const TIMED_TOKENS = 127;
const FIRST_TOKEN = 1;

export async function measureDrift(
  { runner, adapter, merged }: CheckedRun,
  prompts: readonly (readonly number[])[],
  vocabSize: number,
): Promise<Drift> {
  const meter = new DriftMeter(vocabSize);
  runner.activate([adapter]);
  const run = async (tokens: readonly number[], after: number): Promise<Float32Array> =>
    (await runner.chunk(0, tokens, after, adapter, 'all')).slice();
  for (const tokens of prompts) {
    const [plain, other] = await eachWay(runner, merged, () => run(tokens, 0));
    const half = Math.ceil(tokens.length / 2);
    const pieces = [await run(tokens.slice(0, half), 0), await run(tokens.slice(half), half)];
    const again = new Float32Array(plain.length);
    again.set(pieces[0]!);
    again.set(pieces[1]!, pieces[0]!.length);
    meter.add(plain, again, other);
  }
  return meter.result();
}

/** `times` rounds in which both ways take turns; the medians of each are compared. `now` in milliseconds. */
export async function measureGain(
  { runner, adapter, merged }: CheckedRun,
  rowCounts: readonly number[],
  now: () => number,
  times = 9,
): Promise<Gain> {
  const compare = async (run: () => Promise<unknown>): Promise<number> => {
    const took: [number[], number[]] = [[], []];
    await eachWay(runner, merged, run);
    for (let round = 0; round < times; round++) {
      const ms = await eachWay(runner, merged, async () => {
        const startMs = now();
        await run();
        return now() - startMs;
      });
      took[0].push(ms[0]);
      took[1].push(ms[1]);
    }
    return median(took[0]) / median(took[1]);
  };
  runner.activate([adapter]);
  const decode: { rows: number; ratio: number }[] = [];
  for (const rows of rowCounts) {
    const batch = Array.from({ length: rows }, (_, row) => ({
      token: FIRST_TOKEN + row,
      length: TIMED_TOKENS - 1,
      adapter,
    }));
    decode.push({ rows, ratio: await compare(() => runner.decode(batch)) });
  }
  const prompt = Array.from({ length: TIMED_TOKENS }, (_, i) => FIRST_TOKEN + i);
  return { decode, prefill: await compare(() => runner.chunk(0, prompt, 0, adapter, 'last')) };
}

/** [unmerged, merged]. */
async function eachWay<T>(
  runner: ModelRunner,
  merged: MergedWeights,
  run: () => Promise<T>,
): Promise<[T, T]> {
  runner.useMerged(null);
  const plain = await run();
  runner.useMerged({ ...merged, servesPrefill: true });
  try {
    return [plain, await run()];
  } finally {
    runner.useMerged(null);
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
