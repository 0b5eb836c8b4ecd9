// GGML's tensor types as GGUF numbers them (ggml.h, enum ggml_type): name, weights a block, bytes a block.
// All of them are named, so that a file with one that is not supported can still be listed and refused by name.

interface TypeSize {
  /** Weights a block. */
  readonly blockSize: number;
  /** Bytes a block. */
  readonly blockBytes: number;
}

/** Those whose values can be read. */
export const SUPPORTED_TYPES = {
  F32: { blockSize: 1, blockBytes: 4 },
  F16: { blockSize: 1, blockBytes: 2 },
  BF16: { blockSize: 1, blockBytes: 2 },
  Q4_0: { blockSize: 32, blockBytes: 18 },
  Q4_1: { blockSize: 32, blockBytes: 20 },
  Q5_0: { blockSize: 32, blockBytes: 22 },
  Q5_1: { blockSize: 32, blockBytes: 24 },
  Q8_0: { blockSize: 32, blockBytes: 34 },
  Q4_K: { blockSize: 256, blockBytes: 144 },
  Q5_K: { blockSize: 256, blockBytes: 176 },
  Q6_K: { blockSize: 256, blockBytes: 210 },
} as const satisfies Record<string, TypeSize>;

/** Those whose place in the file is known, but whose values are not read. */
const OTHER_TYPES = {
  Q8_1: { blockSize: 32, blockBytes: 36 },
  Q2_K: { blockSize: 256, blockBytes: 84 },
  Q3_K: { blockSize: 256, blockBytes: 110 },
  Q8_K: { blockSize: 256, blockBytes: 292 },
  IQ2_XXS: { blockSize: 256, blockBytes: 66 },
  IQ2_XS: { blockSize: 256, blockBytes: 74 },
  IQ3_XXS: { blockSize: 256, blockBytes: 98 },
  IQ1_S: { blockSize: 256, blockBytes: 50 },
  IQ4_NL: { blockSize: 32, blockBytes: 18 },
  IQ3_S: { blockSize: 256, blockBytes: 110 },
  IQ2_S: { blockSize: 256, blockBytes: 82 },
  IQ4_XS: { blockSize: 256, blockBytes: 136 },
  I8: { blockSize: 1, blockBytes: 1 },
  I16: { blockSize: 1, blockBytes: 2 },
  I32: { blockSize: 1, blockBytes: 4 },
  I64: { blockSize: 1, blockBytes: 8 },
  F64: { blockSize: 1, blockBytes: 8 },
  IQ1_M: { blockSize: 256, blockBytes: 56 },
  TQ1_0: { blockSize: 256, blockBytes: 54 },
  TQ2_0: { blockSize: 256, blockBytes: 66 },
  MXFP4: { blockSize: 32, blockBytes: 17 },
} as const satisfies Record<string, TypeSize>;

export type SupportedGgmlType = keyof typeof SUPPORTED_TYPES;
export type GgmlType = SupportedGgmlType | keyof typeof OTHER_TYPES;

/** Size of a block of any known type. */
export const GGML_TYPES: Readonly<Record<GgmlType, TypeSize>> = { ...SUPPORTED_TYPES, ...OTHER_TYPES };

export function isSupportedType(type: GgmlType): type is SupportedGgmlType {
  return Object.hasOwn(SUPPORTED_TYPES, type);
}

/** The type that GGUF stores as this number; absent for numbers that are removed or unknown. */
export const TYPE_BY_ID: ReadonlyMap<number, GgmlType> = new Map([
  [0, 'F32'],
  [1, 'F16'],
  [2, 'Q4_0'],
  [3, 'Q4_1'],
  [6, 'Q5_0'],
  [7, 'Q5_1'],
  [8, 'Q8_0'],
  [9, 'Q8_1'],
  [10, 'Q2_K'],
  [11, 'Q3_K'],
  [12, 'Q4_K'],
  [13, 'Q5_K'],
  [14, 'Q6_K'],
  [15, 'Q8_K'],
  [16, 'IQ2_XXS'],
  [17, 'IQ2_XS'],
  [18, 'IQ3_XXS'],
  [19, 'IQ1_S'],
  [20, 'IQ4_NL'],
  [21, 'IQ3_S'],
  [22, 'IQ2_S'],
  [23, 'IQ4_XS'],
  [24, 'I8'],
  [25, 'I16'],
  [26, 'I32'],
  [27, 'I64'],
  [28, 'F64'],
  [29, 'IQ1_M'],
  [30, 'BF16'],
  [34, 'TQ1_0'],
  [35, 'TQ2_0'],
  [39, 'MXFP4'],
]);
