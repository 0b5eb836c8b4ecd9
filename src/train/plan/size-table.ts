// What bases of common sizes need, by method: for the documentation, and for whoever chooses a base.
import type { Architecture } from '../../model/architecture.js';
import { loraOfRank, type FrozenWeights, type MethodOptions } from '../options.js';
import { planMemory, totalBytes } from './memory.js';
import { countBase, countTrained } from './parameter-counts.js';
import { STORED_BITS } from './stored-bits.js';

export interface SizeRow {
  readonly base: string;
  readonly method: 'full' | 'LoRA' | 'QLoRA';
  /** Of the frozen matrices; of a full run, its own. */
  readonly bitsPerParameter: number;
  /** The blocks' matrices at so many bits. */
  readonly weightBytes: number;
  /** Trained values, gradients and AdamW's moments. */
  readonly trainedBytes: number;
  readonly neededBytes: number;
}

const ROW_LENGTH = 1024;
const COMMON = {
  rmsNormEps: 1e-5,
  ropeTheta: 1e6,
  ropeScaling: null,
  tiedHead: false,
  outputBias: false,
  mlpBias: false,
  qkNorm: false,
  slidingWindow: null,
  contextLength: 32_768,
  numKvHeads: 8,
  headDim: 128,
} as const;
const QWEN = { ...COMMON, family: 'qwen2', vocabSize: 152_064, qkvBias: true } as const;

/** From the models' config.json. */
export const COMMON_BASES: Readonly<Record<string, Architecture>> = {
  'Qwen2.5-7B': {
    ...QWEN,
    hiddenSize: 3584,
    numLayers: 28,
    numHeads: 28,
    numKvHeads: 4,
    intermediateSize: 18_944,
  },
  'Qwen2.5-14B': { ...QWEN, hiddenSize: 5120, numLayers: 48, numHeads: 40, intermediateSize: 13_824 },
  'Qwen2.5-32B': { ...QWEN, hiddenSize: 5120, numLayers: 64, numHeads: 40, intermediateSize: 27_648 },
  'Llama-3.1-70B': {
    ...COMMON,
    family: 'llama',
    vocabSize: 128_256,
    qkvBias: false,
    hiddenSize: 8192,
    numLayers: 80,
    numHeads: 64,
    intermediateSize: 28_672,
  },
};

const LORA: MethodOptions = loraOfRank(8);
const METHODS: readonly (readonly [SizeRow['method'], MethodOptions, FrozenWeights])[] = [
  ['full', { name: 'full' }, 'f32'],
  ['LoRA', LORA, 'f32'],
  ['QLoRA', LORA, 'nf4'],
];

/** With checkpointing, one row of 1024 tokens, LoRA of rank 8 on all projections. */
export function sizeTable(): readonly SizeRow[] {
  return Object.entries(COMMON_BASES).flatMap(([base, arch]) =>
    METHODS.map(([method, options, frozenWeights]) => {
      const { blockMatrices } = countBase(arch);
      const bitsPerParameter = STORED_BITS[frozenWeights];
      return {
        base,
        method,
        bitsPerParameter,
        weightBytes: (arch.numLayers * blockMatrices * bitsPerParameter) / 8,
        trainedBytes: 16 * countTrained(arch, options),
        neededBytes: totalBytes(
          planMemory(
            arch,
            {
              stage: 'sft',
              method: options,
              frozenWeights,
              precision: 'f32',
              batchSize: 1,
              gradientCheckpointing: true,
            },
            ROW_LENGTH,
          ),
        ),
      };
    }),
  );
}
