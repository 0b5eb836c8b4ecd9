// Small language models in plain JavaScript, with exact gradients: the next token's logits depend on the token before it alone.
// They stand in for the real model wherever the trainer is tested: a step takes microseconds.
import { IGNORED, type TrainingBatch } from '../../src/data/types.js';
import { writeSafetensors } from '../../src/formats/safetensors.js';
import { createParameter } from '../../src/train/parameters.js';
import { randomBits, uniform } from '../../src/train/random-numbers.js';
import type { Parameter, TrainingMethod, TrainingModel } from '../../src/train/types.js';

/** A model of one token's successor. `mask` multiplies hidden units or logits (dropout); null is none. */
interface NextToken {
  readonly parameters: readonly Parameter[];
  /** What dropout drops. */
  readonly numUnits: number;
  /** [V]. */
  logits(token: number, reference: boolean, mask: Float64Array | null): Float64Array;
  /** Adds to the gradients; `dLogits` [V]. */
  backward(token: number, dLogits: Float64Array, mask: Float64Array | null): void;
}

export interface TokenModel {
  readonly model: TrainingModel;
  readonly method: TrainingMethod;
}

export interface TokenModelOptions {
  readonly dropout?: number;
  readonly seed?: number;
  readonly decay?: boolean;
  readonly learningRateScale?: number;
}

/** A table of logits [V, V], zero at first: every gradient is exact, and the loss is convex. */
export function bigramModel(
  vocabSize: number,
  { dropout = 0, decay = true, learningRateScale = 1 }: TokenModelOptions = {},
): TokenModel {
  const table = createParameter('bigram.weight', [vocabSize, vocabSize], new Float32Array(vocabSize ** 2), {
    decay,
    learningRateScale,
  });
  const next: NextToken = {
    parameters: [table],
    numUnits: vocabSize,
    logits(token, reference, mask) {
      return Float64Array.from({ length: vocabSize }, (_, at) =>
        reference ? 0 : table.values[token * vocabSize + at]! * (mask?.[at] ?? 1),
      );
    },
    backward(token, dLogits, mask) {
      for (const [at, value] of dLogits.entries())
        table.gradient[token * vocabSize + at]! += value * (mask?.[at] ?? 1);
    },
  };
  return tokenModel(next, dropout);
}

/** The same logits whatever came before: a bias [V]. It cannot learn what follows what. */
export function unigramModel(vocabSize: number): TokenModel {
  const bias = createParameter('unigram.bias', [vocabSize], new Float32Array(vocabSize));
  const next: NextToken = {
    parameters: [bias],
    numUnits: vocabSize,
    logits: (_, reference) => (reference ? new Float64Array(vocabSize) : Float64Array.from(bias.values)),
    backward(_, dLogits) {
      for (const [at, value] of dLogits.entries()) bias.gradient[at]! += value;
    },
  };
  return tokenModel(next, 0);
}

export interface TwoLayerOptions extends TokenModelOptions {
  readonly hidden: number;
  /** Hidden units start at -50 or 50, where tanh is flat to the last bit. */
  readonly isSaturated?: boolean;
  /** Leaves the second layer as it is. */
  readonly freezesHead?: boolean;
}

/** logits = U tanh(E[token]), E [V, hidden], U [V, hidden]. */
export function twoLayerModel(
  vocabSize: number,
  { hidden, isSaturated = false, freezesHead = false, dropout = 0, seed = 1 }: TwoLayerOptions,
): TokenModel {
  const size = vocabSize * hidden;
  const embedding = createParameter('embedding.weight', [vocabSize, hidden], uniform(size, 0.5, seed, 1));
  if (isSaturated) embedding.values.set(embedding.values.map((value) => 50 * Math.sign(value)));
  const head = createParameter('head.weight', [vocabSize, hidden], uniform(size, 0.5, seed, 2));
  const startEmbedding = embedding.values.slice();
  const startHead = head.values.slice();
  const unit = (weights: Float32Array, token: number, at: number) => Math.tanh(weights[token * hidden + at]!);
  const next: NextToken = {
    parameters: freezesHead ? [embedding] : [embedding, head],
    numUnits: hidden,
    logits(token, reference, mask) {
      const [weights, rows] = reference ? [startEmbedding, startHead] : [embedding.values, head.values];
      const logits = new Float64Array(vocabSize);
      for (let at = 0; at < hidden; at++) {
        const value = unit(weights, token, at) * (mask?.[at] ?? 1);
        for (let row = 0; row < vocabSize; row++) logits[row]! += rows[row * hidden + at]! * value;
      }
      return logits;
    },
    backward(token, dLogits, mask) {
      for (let at = 0; at < hidden; at++) {
        const tanh = unit(embedding.values, token, at);
        const kept = mask?.[at] ?? 1;
        let toUnit = 0;
        for (const [row, value] of dLogits.entries()) {
          head.gradient[row * hidden + at]! += value * tanh * kept;
          toUnit += value * head.values[row * hidden + at]!;
        }
        embedding.gradient[token * hidden + at]! += toUnit * kept * (1 - tanh * tanh);
      }
    },
  };
  return tokenModel(next, dropout);
}

function tokenModel(next: NextToken, dropout: number): TokenModel {
  const { parameters } = next;
  const model: TrainingModel = {
    parameters,
    logprobs(batch, { reference = false } = {}) {
      const logprobs = transitions(batch).map(({ token, label }) =>
        logprobOf(next.logits(token, reference, null), label),
      );
      return Promise.resolve(Float32Array.from(logprobs));
    },
    accumulate(batch, weigh, seed) {
      const random = seed === null || dropout === 0 ? null : randomBits(seed);
      const passes = transitions(batch).map(({ token, label }) => {
        const mask = random === null ? null : dropoutMask(next.numUnits, dropout, random);
        return { token, label, mask, logits: next.logits(token, false, mask) };
      });
      const logprobs = Float32Array.from(passes, ({ logits, label }) => logprobOf(logits, label));
      const weights = weigh(logprobs);
      for (const [at, { token, label, mask, logits }] of passes.entries()) {
        const total = logSumExp(logits);
        const weight = weights[at]!;
        const dLogits = logits.map(
          (value, row) => weight * (Number(row === label) - Math.exp(value - total)),
        );
        next.backward(token, dLogits, mask);
      }
      return Promise.resolve(logprobs);
    },
    dispose: () => Promise.resolve(),
  };
  return { model, method: tokenMethod(parameters, dropout) };
}

/** Trains all there is; its files hold the values under PEFT's file names. */
function tokenMethod(parameters: readonly Parameter[], dropout: number): TrainingMethod {
  const unused = () => Promise.reject(new Error('the model reads its parameters itself'));
  return {
    name: 'token-table',
    additions: {
      lora: { q_proj: { rank: 1, scale: 1, dropout } },
      biases: [],
      bottleneck: null,
      numPrefixTokens: 0,
      full: false,
    },
    parameters,
    inputs: unused,
    backward: unused,
    files: () =>
      Promise.resolve(
        new Map([
          ['adapter_config.json', new TextEncoder().encode('{"peft_type":"LORA"}')],
          [
            'adapter_model.safetensors',
            writeSafetensors(
              new Map(parameters.map(({ name, shape, values }) => [name, { shape, data: values }])),
            ),
          ],
        ]),
      ),
  };
}

function transitions(batch: TrainingBatch): { readonly token: number; readonly label: number }[] {
  return [...batch.labels.entries()].flatMap(([at, label]) =>
    label === IGNORED ? [] : [{ token: batch.tokens[at - 1]!, label }],
  );
}

function dropoutMask(size: number, dropout: number, random: () => number): Float64Array {
  return Float64Array.from({ length: size }, () => (random() / 2 ** 32 < dropout ? 0 : 1 / (1 - dropout)));
}

function logprobOf(logits: Float64Array, label: number): number {
  return logits[label]! - logSumExp(logits);
}

function logSumExp(values: Float64Array): number {
  const most = Math.max(...values);
  return most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
}
