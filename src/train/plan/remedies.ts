// What to change where a run does not fit: the mildest changes first, and each on top of those before it.
import type { Architecture } from '../../model/architecture.js';
import { loraOfRank, type TrainingOptions } from '../options.js';
import { planMemory, totalBytes } from './memory.js';

export interface Remedy {
  readonly words: string;
  readonly options: TrainingOptions;
  readonly neededBytes: number;
}

/** Shortest rows that are still proposed, in tokens. */
const SHORTEST_ROW = 128;
const LORA: TrainingOptions['method'] = loraOfRank(8);

interface Step {
  readonly words: string;
  readonly apply: (options: TrainingOptions) => TrainingOptions | null;
}

/** The same tokens a step: what is taken from the micro-batch is added to the accumulation. */
const STEPS: readonly Step[] = [
  {
    words: 'gradient checkpointing on',
    apply: (each) => (each.gradientCheckpointing ? null : { ...each, gradientCheckpointing: true }),
  },
  ...[2, 4, 8, 16, 32, 64].map((parts) => ({
    words: '',
    apply: (each: TrainingOptions) => smallerBatch(each, parts),
  })),
  {
    words: 'LoRA instead of a full run',
    apply: (each) => (each.method.name === 'full' ? { ...each, method: LORA } : null),
  },
  {
    words: 'the base in 4 bits (nf4 or int4)',
    apply: (each) =>
      each.frozenWeights === 'f32' && each.method.name !== 'full' ? { ...each, frozenWeights: 'nf4' } : null,
  },
  ...[2, 4, 8, 16, 32].map((parts) => ({
    words: '',
    apply: (each: TrainingOptions) => shorterRows(each, parts),
  })),
];

/**
 * Single changes that suffice, each alone; where none does, the fewest of them together that do; empty where nothing does.
 * `longestRow` in tokens, and no longer than the cutoff.
 */
export function remediesFor(
  arch: Architecture,
  options: TrainingOptions,
  longestRow: number,
  memoryBytes: number,
): readonly Remedy[] {
  const from = { ...options, cutoffLength: longestRow };
  const remedy = (words: string, changed: TrainingOptions): Remedy => ({
    words,
    options: changed,
    neededBytes: totalBytes(planMemory(arch, changed, changed.cutoffLength)),
  });
  const alone = new Map<string, Remedy>();
  for (const step of STEPS) {
    const changed = step.apply(from);
    if (changed === null) continue;
    const found = remedy(wordsOf(step, from, changed), changed);
    // Of the several batch sizes and row lengths, the mildest that fits.
    const kind = step.words === '' ? changedField(from, changed) : step.words;
    if (found.neededBytes <= memoryBytes && !alone.has(kind)) alone.set(kind, found);
  }
  if (alone.size > 0) return [...alone.values()];
  return together(from, remedy, memoryBytes);
}

function together(
  from: TrainingOptions,
  remedy: (words: string, changed: TrainingOptions) => Remedy,
  memoryBytes: number,
): readonly Remedy[] {
  let current = from;
  const words = new Map<string, string>();
  for (const step of STEPS) {
    const changed = step.apply(current);
    if (changed === null) continue;
    words.set(step.words === '' ? changedField(current, changed) : step.words, wordsOf(step, from, changed));
    current = changed;
    const found = remedy([...words.values()].join(' and '), current);
    if (found.neededBytes <= memoryBytes) return [found];
  }
  return [];
}

function changedField(from: TrainingOptions, to: TrainingOptions): string {
  return from.batchSize === to.batchSize ? 'row' : 'batch';
}

function wordsOf(step: Step, from: TrainingOptions, to: TrainingOptions): string {
  if (step.words !== '') return step.words;
  return from.batchSize !== to.batchSize && from.cutoffLength === to.cutoffLength
    ? `micro-batches of ${to.batchSize} with ${to.accumulation} accumulated`
    : `rows of at most ${to.cutoffLength} tokens`;
}

function smallerBatch(options: TrainingOptions, parts: number): TrainingOptions | null {
  const batchSize = Math.floor(options.batchSize / parts);
  if (batchSize < 1) return null;
  return {
    ...options,
    batchSize,
    accumulation: Math.ceil((options.batchSize * options.accumulation) / batchSize),
  };
}

function shorterRows(options: TrainingOptions, parts: number): TrainingOptions | null {
  const cutoffLength = Math.floor(options.cutoffLength / parts);
  return cutoffLength < SHORTEST_ROW ? null : { ...options, cutoffLength };
}
