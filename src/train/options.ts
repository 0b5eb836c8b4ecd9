// What a training run is asked to do, with every choice made: the API's job, the YAML file and the command line all end here.

import type { Projection, RopeScaling } from '../model/architecture.js';

export type Stage = 'sft' | 'pt' | 'dpo';
export type Schedule = 'cosine' | 'linear' | 'constant';
export type PreferenceLoss = 'sigmoid' | 'hinge' | 'ipo';
/** How the frozen base is held: f32, the served 4-bit codes, or NF4 with double quantization (QLoRA); dequantized where it is used. */
export type FrozenWeights = 'f32' | 'int4' | 'nf4';
/**
 * Of the products with frozen matrices, whose results are f32 in any case. `bf16` rounds both factors to bfloat16, where the processor has
 * products of such (precision.ts); elsewhere it is `f32`.
 */
export type Precision = 'f32' | 'bf16';

export type MethodOptions =
  | {
      readonly name: 'lora';
      readonly rank: number;
      readonly alpha: number;
      readonly rslora: boolean;
      readonly dropout: number;
      readonly targets: readonly Projection[];
      /** Learning rate of B over that of A (LoRA+); 1 is plain LoRA. */
      readonly plusRatio: number;
    }
  | {
      readonly name: 'prefix_tuning';
      readonly numVirtualTokens: number;
      /** Reparametrizes through an MLP of `hidden` units; null trains keys and values directly (P-tuning v2's deep prompts). */
      readonly projection: { readonly hidden: number } | null;
    }
  | {
      readonly name: 'prompt_tuning';
      readonly numVirtualTokens: number;
      /** null is random. */
      readonly initText: string | null;
    }
  | {
      readonly name: 'p_tuning';
      readonly numVirtualTokens: number;
      readonly encoder: 'mlp' | 'lstm';
      readonly hidden: number;
    }
  | { readonly name: 'bitfit'; readonly targets: readonly Projection[] }
  | { readonly name: 'bottleneck'; readonly size: number }
  | { readonly name: 'full' };
export type MethodName = MethodOptions['name'];

export interface TrainingOptions {
  readonly stage: Stage;
  readonly method: MethodOptions;
  readonly frozenWeights: FrozenWeights;
  readonly precision: Precision;
  readonly backend: 'onnx' | 'tfjs';
  /** Longest example, in tokens. */
  readonly cutoffLength: number;
  /** Several examples share a row of cutoffLength tokens. */
  readonly packing: boolean;
  /** Rows of a micro-batch. */
  readonly batchSize: number;
  /** Micro-batches of a step. */
  readonly accumulation: number;
  readonly epochs: number;
  /** Ends the run earlier; null is by epochs alone. */
  readonly maxSteps: number | null;
  readonly learningRate: number;
  readonly schedule: Schedule;
  readonly warmupRatio: number;
  readonly weightDecay: number;
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  /** 0 is no clipping. */
  readonly maxGradNorm: number;
  readonly seed: number;
  readonly gradientCheckpointing: boolean;
  /** Share of the training examples that is held out where there is no validation file; 0 is none. */
  readonly validationShare: number;
  /** Steps between evaluations; null is once an epoch. */
  readonly evalSteps: number | null;
  /** Evaluations without a better loss after which the run ends; null never. */
  readonly earlyStoppingPatience: number | null;
  /** Steps between checkpoints; null is once an epoch. */
  readonly saveSteps: number | null;
  /** Checkpoints that are kept beside the best one. */
  readonly keepCheckpoints: number;
  readonly sampleSteps: number | null;
  readonly samplePrompts: readonly string[];
  readonly dpo: { readonly beta: number; readonly loss: PreferenceLoss; readonly labelSmoothing: number };
  /** Replaces the base's own, to train beyond its window; null keeps it. */
  readonly ropeScaling: RopeScaling | null;
}

export const DEFAULT_TARGETS: readonly Projection[] = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
];

/** LLaMA-Factory's defaults where it has the choice too. */
export const DEFAULT_OPTIONS: TrainingOptions = {
  stage: 'sft',
  method: loraOfRank(16),
  frozenWeights: 'f32',
  precision: 'f32',
  backend: 'onnx',
  cutoffLength: 1024,
  packing: false,
  batchSize: 8,
  accumulation: 1,
  epochs: 3,
  maxSteps: null,
  learningRate: 3e-4,
  schedule: 'cosine',
  warmupRatio: 0.03,
  weightDecay: 0,
  betas: [0.9, 0.999],
  epsilon: 1e-8,
  maxGradNorm: 1,
  seed: 42,
  gradientCheckpointing: true,
  validationShare: 0,
  evalSteps: null,
  earlyStoppingPatience: 3,
  saveSteps: null,
  keepCheckpoints: 2,
  sampleSteps: null,
  samplePrompts: [],
  dpo: { beta: 0.1, loss: 'sigmoid', labelSmoothing: 0 },
  ropeScaling: null,
};

/** On every projection, with what else is the default. */
export function loraOfRank(rank: number): MethodOptions & { readonly name: 'lora' } {
  return {
    name: 'lora',
    rank,
    alpha: 2 * rank,
    rslora: false,
    dropout: 0,
    targets: DEFAULT_TARGETS,
    plusRatio: 1,
  };
}
