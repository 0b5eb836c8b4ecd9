// What a decoder-only transformer of the supported families looks like: sizes and switches, no weights.
// Everything that differs between llama, qwen2, qwen3 and mistral is a field here, so the graph has no family names.

export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | { readonly type: 'dynamic'; readonly factor: number; readonly originalContextLength: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalContextLength: number;
    }
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalContextLength: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Multiplies cos and sin; derived from `factor` where the checkpoint does not give it. */
      readonly attentionFactor: number;
    }
  | {
      readonly type: 'factors';
      /** [headDim / 2]: each frequency is divided by its own factor (the `rope_freqs` tensor of a GGUF file). */
      readonly factors: readonly number[];
    };

export type Family = 'llama' | 'qwen2' | 'qwen3' | 'mistral';

export interface Architecture {
  readonly family: Family;
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  /** Longest sequence that the checkpoint names, in tokens. */
  readonly contextLength: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
  /** The head is the embedding's matrix. */
  readonly tiedHead: boolean;
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  /** RMS norm of each head of q and k before the rotation (qwen3). */
  readonly qkNorm: boolean;
  /** Keys further back than this many tokens are not seen; null sees all. */
  readonly slidingWindow: number | null;
}

/** The seven projections of a block, by the names that checkpoints and PEFT use. */
export const PROJECTIONS = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
] as const;
export type Projection = (typeof PROJECTIONS)[number];

/** The name a projection has inside a block: `self_attn.q_proj`, `mlp.down_proj`. */
export function projectionPath(projection: Projection): string {
  return `${isAttention(projection) ? 'self_attn' : 'mlp'}.${projection}`;
}

/** [out, in] of a projection's weight. */
export function projectionShape(arch: Architecture, projection: Projection): readonly [number, number] {
  const { hiddenSize: h, intermediateSize: i, headDim: d } = arch;
  switch (projection) {
    case 'q_proj':
      return [arch.numHeads * d, h];
    case 'k_proj':
    case 'v_proj':
      return [arch.numKvHeads * d, h];
    case 'o_proj':
      return [h, arch.numHeads * d];
    case 'gate_proj':
    case 'up_proj':
      return [i, h];
    case 'down_proj':
      return [h, i];
  }
}

function isAttention(projection: Projection): boolean {
  return /^[qkvo]_proj$/.test(projection);
}
