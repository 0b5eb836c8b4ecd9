// What a run holds in memory at its peak, term by term, so that each can be measured and put right.
// Groups of rows run one after another through a block's graphs, and these one at a time: what is inside a block is counted once, for
// the largest group; what lies between blocks is counted for every block, and for the rows that wait for their backward pass together:
// those of a group, or of a whole micro-batch of pairs.
import type { Architecture } from '../../model/architecture.js';
import { keptWidth, numKeptBlocks } from '../graphs/kept-values.js';
import { MAX_GROUP_TOKENS } from '../model-view.js';
import type { TrainingOptions } from '../options.js';
import { countBase, countTrained } from './parameter-counts.js';
import { heldBits } from './stored-bits.js';

export interface MemoryTerm {
  readonly name: string;
  readonly bytes: number;
}

export type MemoryOptions = Pick<
  TrainingOptions,
  'stage' | 'method' | 'frozenWeights' | 'precision' | 'batchSize' | 'gradientCheckpointing'
>;

/**
 * How many copies of each kind of array there are at the peak. Fitted to the peak resident size of runs of SmolLM2-135M (docs/training.md);
 * the shapes are what makes them carry over to other bases.
 */
export interface MemoryCosts {
  /** The process with its code, before the base is read. */
  readonly processBytes: number;
  /** A block's matrices as floats, where they are held in 4 bits. */
  readonly dequantized: number;
  /** [B, heads, S, T] inside a block. */
  readonly attention: number;
  /** [B, S, I] inside a block. */
  readonly intermediate: number;
  /** [B, S, H] inside a block. */
  readonly hidden: number;
  /** [chunk, vocabulary]. */
  readonly logits: number;
  /** Of the trained parameters, while a checkpoint is written. */
  readonly checkpoint: number;
}

export const MEASURED_COSTS: MemoryCosts = {
  processBytes: 200e6,
  dequantized: 1,
  attention: 4.3,
  intermediate: 4,
  hidden: 9.5,
  logits: 1,
  checkpoint: 3.8,
};

const FLOAT_BYTES = 4;
/** Logits that are in memory at once: at most so many rows, and so many values. */
const MAX_CHUNK_ROWS = 256;
const MAX_CHUNK_LOGITS = 2 ** 24;

/** Bytes at the peak, for micro-batches of `options.batchSize` rows (pairs for DPO) of `rowLength` tokens. */
export function planMemory(
  arch: Architecture,
  options: MemoryOptions,
  rowLength: number,
  costs: MemoryCosts = MEASURED_COSTS,
): readonly MemoryTerm[] {
  const shapes = shapesOf(options, rowLength);
  const base = countBase(arch);
  const trained = FLOAT_BYTES * countTrained(arch, options.method);
  const isFull = options.method.name === 'full';
  // A full run of DPO has the base beside it, as the reference.
  const isBaseHeld = !isFull || options.stage === 'dpo';
  const isDequantized = isBaseHeld && options.frozenWeights !== 'f32';
  const bits = heldBits(options.frozenWeights, options.precision);
  const checkpointing = options.gradientCheckpointing;
  return [
    { name: 'process', bytes: costs.processBytes },
    {
      name: 'frozen blocks',
      bytes: isBaseHeld ? (arch.numLayers * base.blockMatrices * bits) / 8 : 0,
    },
    { name: 'embedding and head', bytes: isBaseHeld ? endBytes(arch) : 0 },
    {
      name: "a block's matrices as floats",
      bytes: isDequantized ? costs.dequantized * base.blockMatrices * FLOAT_BYTES : 0,
    },
    { name: 'trained parameters', bytes: trained },
    { name: 'gradients, of a step and of a micro-batch', bytes: 2 * trained },
    { name: "AdamW's two moments", bytes: 2 * trained },
    { name: 'writing a checkpoint', bytes: costs.checkpoint * trained },
    {
      name: 'inputs of the blocks',
      bytes: (arch.numLayers + 1) * shapes.held * arch.hiddenSize * FLOAT_BYTES,
    },
    { name: 'attention masks', bytes: shapes.rows * shapes.length * shapes.keys * FLOAT_BYTES },
    { name: 'inside a block', bytes: insideBlock(arch, shapes, costs) },
    {
      name: 'kept of the blocks',
      bytes: checkpointing
        ? keptProducts(arch, options.method, shapes)
        : arch.numLayers * keptOfBlock(arch, shapes),
    },
    { name: 'logits', bytes: costs.logits * chunkRows(arch.vocabSize) * arch.vocabSize * FLOAT_BYTES },
  ].filter(({ bytes }) => bytes > 0);
}

export function totalBytes(terms: readonly MemoryTerm[]): number {
  return terms.reduce((sum, { bytes }) => sum + bytes, 0);
}

interface Shapes {
  readonly rows: number;
  /** S, virtual tokens among them. */
  readonly length: number;
  /** T: positions and keys that stand before them. */
  readonly keys: number;
  /** Rows that run through a block together. */
  readonly groupRows: number;
  /** Positions whose backward pass has to wait for the forward pass of all of them. */
  readonly held: number;
}

function shapesOf({ batchSize, stage, method }: MemoryOptions, rowLength: number): Shapes {
  const virtual = 'numVirtualTokens' in method ? method.numVirtualTokens : 0;
  const isPrefix = method.name === 'prefix_tuning';
  const rows = batchSize * (stage === 'dpo' ? 2 : 1);
  const length = rowLength + (isPrefix ? 0 : virtual);
  const groupRows = Math.min(rows, Math.max(1, Math.floor(MAX_GROUP_TOKENS / length)));
  const held = (stage === 'dpo' ? rows : groupRows) * length;
  return { rows, length, keys: rowLength + virtual, groupRows, held };
}

function insideBlock(arch: Architecture, { groupRows, length, keys }: Shapes, costs: MemoryCosts): number {
  const attention = costs.attention * arch.numHeads * length * keys;
  const width = costs.intermediate * arch.intermediateSize + costs.hidden * arch.hiddenSize;
  return FLOAT_BYTES * groupRows * (attention + length * width);
}

/** What the forward graph gives the backward graph: the attention's weights once, and what each product and norm reads. */
function keptOfBlock(arch: Architecture, { keys, held }: Shapes): number {
  const { hiddenSize, numHeads, numKvHeads, headDim, intermediateSize } = arch;
  const width = 3 * hiddenSize + 2 * (numHeads + numKvHeads) * headDim + 5 * intermediateSize;
  return FLOAT_BYTES * held * (numHeads * keys + width);
}

/** What the products give, of as many blocks as the trainer keeps. */
function keptProducts(arch: Architecture, method: MemoryOptions['method'], { held }: Shapes): number {
  const ranks = method.name === 'lora' ? method.rank * method.targets.length : 0;
  return FLOAT_BYTES * numKeptBlocks(arch, ranks, held) * held * keptWidth(arch, ranks);
}

/** The head as floats; an embedding of its own stays in 8 bits, with a 32-bit scale for 32 of them. */
function endBytes({ vocabSize, hiddenSize, tiedHead }: Architecture): number {
  return vocabSize * hiddenSize * (FLOAT_BYTES + (tiedHead ? 0 : (8 + 32 / 32) / 8));
}

/** As the head cuts its rows: powers of two. */
function chunkRows(vocabSize: number): number {
  return Math.min(MAX_CHUNK_ROWS, 2 ** Math.floor(Math.log2(MAX_CHUNK_LOGITS / vocabSize)));
}
