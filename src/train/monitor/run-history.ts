// What the diagnosis remembers of a run: of bounded size however long the run is, and plain JSON, since it is kept in checkpoints.

import type { EvalEvent, StepEvent } from '../events.js';
import { addEndTokens, type EndTokens, NO_END_TOKENS } from '../supervision.js';

/** About the step event before it, of which it has a closer look. */
export interface DetailObservation {
  readonly type: 'detail';
  /** Standard error of the step's loss as its examples show it; null for too few. */
  readonly lossError: number | null;
  /** null where it is not known which tokens end an answer. */
  readonly endTokens: EndTokens | null;
}

/** A loss, a gradient or a weight that is not finite: such a step is no step event. */
export interface NonFiniteObservation {
  readonly type: 'non_finite';
  readonly message: string;
}

/** Everything that a fault can be seen in. Numbers of events are finite. */
export type Observation = StepEvent | EvalEvent | DetailObservation | NonFiniteObservation;

/** Steps that lie side by side: a run is divided into NUM_PARTS of them. */
export interface RunPart {
  readonly numSteps: number;
  readonly lossSum: number;
  readonly learningRateSum: number;
}

export interface Evaluation {
  readonly step: number;
  readonly loss: number;
  /** Mean of the steps since the evaluation before. */
  readonly trainLoss: number;
}

export interface RunHistory {
  readonly step: number;
  readonly totalSteps: number;
  /** Steps that are looked at together. */
  readonly windowSize: number;
  /** Losses of the first windowSize * 2 steps, and of the last ones. */
  readonly first: readonly number[];
  readonly last: readonly number[];
  /** Of the last steps: by how much their losses may differ by chance. */
  readonly lossErrors: readonly number[];
  /** Least mean of any windowSize steps in a row. */
  readonly bestMean: number | null;
  readonly parts: readonly RunPart[];
  /** Gradient norms of the first windowSize steps. */
  readonly firstGradNorms: readonly number[];
  /** Steps in a row, up to now, whose gradient norm was next to nothing. */
  readonly numFlat: number;
  readonly lastGradNorm: number;
  /** Steps without a supervised token. */
  readonly numMasked: number;
  readonly nonFinite: string | null;
  /** The best one, and up to MAX_EVALUATIONS of the last. */
  readonly bestEvaluation: Evaluation | null;
  readonly evaluations: readonly Evaluation[];
  readonly sinceEvaluation: { readonly numSteps: number; readonly lossSum: number };
  /** Over all steps, and over the run's last part. */
  readonly endTokens: EndTokens;
  readonly lateEndTokens: EndTokens;
  readonly rewardsAccuracies: number | null;
  /** Faults that were told already. */
  readonly reported: readonly string[];
}

export const NUM_PARTS = 20;
const MAX_EVALUATIONS = 6;
/** Gradient norms below this, or below this share of the first ones, are next to nothing. */
const FLAT_NORM = 1e-7;
const FLAT_SHARE = 1e-4;

export const EMPTY_HISTORY: RunHistory = {
  step: 0,
  totalSteps: 0,
  windowSize: 0,
  first: [],
  last: [],
  lossErrors: [],
  bestMean: null,
  parts: [],
  firstGradNorms: [],
  numFlat: 0,
  lastGradNorm: 0,
  numMasked: 0,
  nonFinite: null,
  bestEvaluation: null,
  evaluations: [],
  sinceEvaluation: { numSteps: 0, lossSum: 0 },
  endTokens: NO_END_TOKENS,
  lateEndTokens: NO_END_TOKENS,
  rewardsAccuracies: null,
  reported: [],
};

export function remember(history: RunHistory, seen: Observation): RunHistory {
  switch (seen.type) {
    case 'step':
      return rememberStep(history, seen);
    case 'eval':
      return rememberEvaluation(history, seen);
    case 'detail':
      return rememberDetail(history, seen);
    case 'non_finite':
      return { ...history, nonFinite: seen.message };
  }
}

function rememberStep(before: RunHistory, event: StepEvent): RunHistory {
  const { step, totalSteps, loss, gradNorm } = event;
  if (event.numSupervised === 0) return { ...before, step, totalSteps, numMasked: before.numMasked + 1 };
  const windowSize = Math.min(20, Math.max(8, Math.ceil(totalSteps / 10)));
  const last = [...before.last, loss].slice(-windowSize);
  const isFull = last.length === windowSize;
  const firstGradNorms =
    before.firstGradNorms.length < windowSize ? [...before.firstGradNorms, gradNorm] : before.firstGradNorms;
  const isFlat = gradNorm < Math.max(FLAT_NORM, FLAT_SHARE * Math.max(...firstGradNorms));
  return {
    ...before,
    step,
    totalSteps,
    windowSize,
    first: before.first.length < 2 * windowSize ? [...before.first, loss] : before.first,
    last,
    bestMean: isFull ? Math.min(before.bestMean ?? Infinity, mean(last)) : before.bestMean,
    parts: addToPart(before.parts, partOf(step, totalSteps), event),
    firstGradNorms,
    numFlat: isFlat ? before.numFlat + 1 : 0,
    lastGradNorm: gradNorm,
    sinceEvaluation: {
      numSteps: before.sinceEvaluation.numSteps + 1,
      lossSum: before.sinceEvaluation.lossSum + loss,
    },
    rewardsAccuracies: event.preference?.rewardsAccuracies ?? null,
  };
}

function rememberDetail(before: RunHistory, { lossError, endTokens }: DetailObservation): RunHistory {
  const lossErrors =
    lossError === null ? before.lossErrors : [...before.lossErrors, lossError].slice(-before.windowSize);
  const history = { ...before, lossErrors };
  if (endTokens === null) return history;
  const isLate = partOf(before.step, before.totalSteps) >= NUM_PARTS - 2;
  return {
    ...history,
    endTokens: addEndTokens(before.endTokens, endTokens),
    lateEndTokens: isLate ? addEndTokens(before.lateEndTokens, endTokens) : before.lateEndTokens,
  };
}

function rememberEvaluation(before: RunHistory, { step, loss }: EvalEvent): RunHistory {
  const { numSteps, lossSum } = before.sinceEvaluation;
  const evaluation = { step, loss, trainLoss: numSteps === 0 ? 0 : lossSum / numSteps };
  const isBest = before.bestEvaluation === null || loss < before.bestEvaluation.loss;
  return {
    ...before,
    bestEvaluation: isBest ? evaluation : before.bestEvaluation,
    evaluations: [...before.evaluations, evaluation].slice(-MAX_EVALUATIONS),
    sinceEvaluation: { numSteps: 0, lossSum: 0 },
  };
}

/** [0, NUM_PARTS) */
function partOf(step: number, totalSteps: number): number {
  return Math.min(NUM_PARTS - 1, Math.floor(((step - 1) * NUM_PARTS) / totalSteps));
}

function addToPart(parts: readonly RunPart[], index: number, event: StepEvent): readonly RunPart[] {
  const all = Array.from(
    { length: Math.max(parts.length, index + 1) },
    (_, at) => parts[at] ?? { numSteps: 0, lossSum: 0, learningRateSum: 0 },
  );
  const part = all[index]!;
  all[index] = {
    numSteps: part.numSteps + 1,
    lossSum: part.lossSum + event.loss,
    learningRateSum: part.learningRateSum + event.learningRate,
  };
  return all;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Mean size of the differences between neighbours, less their trend. Of independent values it is 1.13 times their deviation. */
export function noise(values: readonly number[]): number {
  const differences = values.slice(1).map((value, index) => value - values[index]!);
  const trend = mean(differences);
  return mean(differences.map((difference) => Math.abs(difference - trend)));
}
