// The protocol between the parts of the trainer: parameters, the model that differentiates, the methods that decide what is trained,
// and the backend that computes graphs.

import type { TrainingBatch } from '../data/types.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Projection } from '../model/architecture.js';

/** A trained tensor. The optimizer writes `values`, backward passes add to `gradient`; both are row-major of `shape`. */
export interface Parameter {
  /** Unique: the key in checkpoints. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
  readonly gradient: Float32Array;
  /** Whether weight decay applies. */
  readonly decay: boolean;
  /** Multiplies the learning rate (LoRA+ gives B another than A). */
  readonly learningRateScale: number;
}

/** dLoss / dlogprob of each supervised token, in the order of the log-probabilities. */
export interface Weigh {
  (logprobs: Float32Array): Float32Array;
  /** A token's weight depends on its own log-probability alone: parts of a batch may be weighed, and differentiated, one after another. */
  readonly isPointwise?: boolean;
}

/**
 * The base with a method's additions. Supervised tokens are those whose label counts, ordered by row, then position: a batch's
 * log-probabilities are those of the labels at positions t + 1 given the segment up to t.
 */
export interface TrainingModel {
  readonly parameters: readonly Parameter[];
  /**
   * Forward only. `reference` leaves the method's additions out: the base itself (DPO's reference). `asServed` takes the base's weights
   * as they serve where the trainer holds them more coarsely.
   */
  logprobs(
    batch: TrainingBatch,
    options?: { readonly reference?: boolean; readonly asServed?: boolean },
  ): Promise<Float32Array>;
  /**
   * Forward and backward: adds d(sum_i weigh_i * logprob_i)/dp to each parameter's gradient, and returns the log-probabilities.
   * `seed` decides dropout; null is none.
   */
  accumulate(batch: TrainingBatch, weigh: Weigh, seed: number | null): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** What a method adds to every decoder block's graph. Input names are those of blockInputs(). */
export interface BlockAdditions {
  /** Inputs `lora.{projection}.a` [r, in], `.b` [out, r]: y += scale * (dropout(x) · aᵀ) · bᵀ. */
  readonly lora: Readonly<
    Partial<Record<Projection, { readonly rank: number; readonly scale: number; readonly dropout: number }>>
  >;
  /** Inputs `bias.{projection}` [out], added to the output, on top of the base's own. */
  readonly biases: readonly Projection[];
  /**
   * Inputs `bottleneck.{place}.down.weight` [size, H], `.down.bias` [size], `.up.weight` [H, size], `.up.bias` [H]:
   * h += up(silu(down(h))), h being the attention's (after o_proj) and the MLP's (after down_proj) output, before the residual sum.
   */
  readonly bottleneck: { readonly size: number } | null;
  /** Inputs `prefix.k`, `prefix.v` [kvHeads, V, D]: every position sees them; real tokens start at position V. 0 is none. */
  readonly numPrefixTokens: number;
  /** The block's own weights as inputs with gradients: `weight.{projection}` [out, in], `bias.…` where the base has biases, `norm.{name}` [H]. */
  readonly full: boolean;
}

/** Values by name for one block, or their gradients. */
export type BlockInputs = ReadonlyMap<string, Float32Array>;

/** Inputs of a step, made from the parameters (and held until the gradients have come). */
export interface MethodInputs {
  /** One map a block. */
  readonly blocks: readonly BlockInputs[];
  /** [V, H] put before every segment's tokens (prompt tuning, P-tuning); null is none. Real tokens start at position V. */
  readonly virtualTokens: Float32Array | null;
  /** Full fine-tuning: embedding [vocab, H], final norm [H], head [vocab, H] (null where tied) in place of the base's. */
  readonly ends: {
    readonly embedding: Float32Array;
    readonly norm: Float32Array;
    readonly head: Float32Array | null;
  } | null;
}

/** The same shapes as MethodInputs; null where there is none. */
export interface MethodGradients {
  readonly blocks: readonly BlockInputs[];
  readonly virtualTokens: Float32Array | null;
  readonly ends: {
    readonly embedding: Float32Array;
    readonly norm: Float32Array;
    readonly head: Float32Array | null;
  } | null;
}

/** What is trained: owns the parameters, turns them into a step's inputs, and gradients of these into gradients of those. */
export interface TrainingMethod {
  /** As in the job: lora, prefix_tuning, prompt_tuning, p_tuning, bitfit, bottleneck, full. */
  readonly name: string;
  readonly additions: BlockAdditions;
  readonly parameters: readonly Parameter[];
  inputs(): Promise<MethodInputs>;
  /** Adds to the parameters' gradients. */
  backward(gradients: MethodGradients): Promise<void>;
  /** Files of the adapter with the current values (base name -> bytes): a PEFT folder, or the documented manifest. */
  files(): Promise<ReadonlyMap<string, Uint8Array>>;
}

/** A value for a graph's input; f32 unless the graph declares otherwise. */
export type InputData = Float32Array | Int32Array | BigInt64Array | Uint8Array;
export interface InputValue {
  readonly data: InputData;
  readonly shape: readonly number[];
}

/** A graph ready to run. Outputs are named as in the graph; all f32. */
export interface GraphExecutor {
  /** `into` offers arrays to write outputs to; the result tells where each output is. Inputs must not change until the promise settles. */
  run(
    inputs: ReadonlyMap<string, InputValue>,
    outputs: ReadonlyMap<string, readonly number[]>,
    into?: ReadonlyMap<string, Float32Array>,
  ): Promise<ReadonlyMap<string, Float32Array>>;
  dispose(): void;
}

/** Computes graphs: ONNX Runtime, or TensorFlow.js. */
export interface Backend {
  readonly name: 'onnx' | 'tfjs';
  compile(graph: GraphBuilder): Promise<GraphExecutor>;
  dispose(): void;
}

/** Called between two runs of a graph: where the trainer lets others compute. */
export type YieldPoint = () => Promise<void>;
