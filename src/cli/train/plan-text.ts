// A plan in words and figures.
import { sizeText, type TrainingPlan } from '../../train/plan/training-plan.js';
import { timeText } from '../../train/monitor/trainer-log.js';

/** A line a fact. */
export function planLines(plan: TrainingPlan): string[] {
  const { size, baseParameters, trainedParameters } = plan;
  const share = (100 * trainedParameters) / baseParameters;
  return [
    `base: ${count(baseParameters)} parameters; trained: ${count(trainedParameters)} (${share.toPrecision(3)} %)`,
    `data: ${count(size.numExamples)} examples, longest row ${count(size.longestRow)} tokens`,
    `steps: ${count(size.totalSteps)}, ${count(size.stepsPerEpoch)} an epoch; tokens: ${count(size.numTokens)}, with padding ${count(size.numPaddedTokens)}`,
    `memory: ${sizeText(plan.neededBytes)} of ${sizeText(plan.memoryBytes)}`,
  ];
}

/** The terms of the memory, largest first. */
export function memoryLines({ memory }: TrainingPlan): string[] {
  const width = Math.max(...memory.map(({ name }) => name.length));
  return memory
    .toSorted((a, b) => b.bytes - a.bytes)
    .map(({ name, bytes }) => `  ${name.padEnd(width)}  ${sizeText(bytes).padStart(9)}`);
}

/** `tokensPerSecond`: padded ones. */
export function timeLine({ size }: Pick<TrainingPlan, 'size'>, tokensPerSecond: number): string {
  const seconds = size.numPaddedTokens / tokensPerSecond;
  return `time: ${timeText(seconds)} at ${count(Math.round(tokensPerSecond))} tokens a second`;
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}
