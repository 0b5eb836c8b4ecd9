// What a run needs before it starts: memory, steps and tokens, and, where it does not fit, what would. The machine's memory is given; in
// what precision it computes is asked.
import { GatewayError } from '../../errors.js';
import type { TokenizedExample, TokenizedPair } from '../../data/types.js';
import type { Architecture } from '../../model/architecture.js';
import type { TrainingOptions } from '../options.js';
import { precisionHere } from '../precision.js';
import { planMemory, totalBytes, type MemoryTerm } from './memory.js';
import { countBase, countTrained } from './parameter-counts.js';
import { remediesFor, type Remedy } from './remedies.js';
import { sizeOfRun, type RunSize } from './run-size.js';

export interface PlanRequest {
  readonly architecture: Architecture;
  readonly options: TrainingOptions;
  /** The training data. One or more. */
  readonly parts: readonly (TokenizedExample | TokenizedPair)[];
  /** Memory that the run may have. */
  readonly memoryBytes: number;
}

export interface TrainingPlan {
  readonly baseParameters: number;
  readonly trainedParameters: number;
  readonly memory: readonly MemoryTerm[];
  readonly neededBytes: number;
  readonly memoryBytes: number;
  readonly size: RunSize;
  /** Empty where the run fits. */
  readonly remedies: readonly Remedy[];
}

export function planTraining(request: PlanRequest): TrainingPlan {
  const { architecture, memoryBytes } = request;
  const options = { ...request.options, precision: precisionHere(request.options) };
  const size = sizeOfRun(request.parts, options);
  const memory = planMemory(architecture, options, size.longestRow);
  const neededBytes = totalBytes(memory);
  return {
    baseParameters: countBase(architecture).total,
    trainedParameters: countTrained(architecture, options.method),
    memory,
    neededBytes,
    memoryBytes,
    size,
    remedies:
      neededBytes <= memoryBytes ? [] : remediesFor(architecture, options, size.longestRow, memoryBytes),
  };
}

/** Throws GatewayError insufficient_memory that names what would fit. */
export function assertFits(plan: TrainingPlan): void {
  if (plan.neededBytes <= plan.memoryBytes) return;
  const terms = plan.memory.toSorted((a, b) => b.bytes - a.bytes).slice(0, 3);
  const largest = terms.map(({ name, bytes }) => `${name} ${sizeText(bytes)}`).join(', ');
  const ways = plan.remedies.map(({ words, neededBytes }) => `${words} (${sizeText(neededBytes)})`);
  throw new GatewayError(
    'insufficient_memory',
    `The run needs about ${sizeText(plan.neededBytes)} and ${sizeText(plan.memoryBytes)} are there; most of it is ${largest}. ` +
      (ways.length === 0
        ? 'No setting makes this base fit: take a smaller one.'
        : `These would fit: ${ways.join('; ')}.`),
  );
}

/** "512 MB", "3.21 GB"; in powers of ten. */
export function sizeText(bytes: number): string {
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(bytes < 1e10 ? 2 : 1)} GB`;
}
