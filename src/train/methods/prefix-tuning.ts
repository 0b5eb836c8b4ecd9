// Prefix tuning (Li and Liang, arXiv 2101.00190): keys and values of virtual tokens in every block. Either an MLP makes them out of small
// embeddings (PEFT's PrefixEncoder), or they are trained as they are: P-tuning v2's deep prompts (arXiv 2110.07602).

import type { Architecture } from '../../model/architecture.js';
import type { MethodOptions } from '../options.js';
import { createParameter } from '../parameters.js';
import { normal } from '../random-numbers.js';
import { NO_ADDITIONS } from '../graphs/block-inputs.js';
import type { Backend, BlockInputs, TrainingMethod } from '../types.js';
import { createEncoder, type Encoder, tableEncoder } from './encoder.js';
import { linear, linearParameters } from './linear.js';
import { type MethodBase, peftFiles } from './peft-files.js';
import { EMBEDDING } from './virtual-tokens.js';

export type PrefixTuningOptions = MethodOptions & { readonly name: 'prefix_tuning' };

const TRANSFORM = 'prompt_encoder.transform';

export async function createPrefixTuningMethod(
  base: MethodBase,
  options: PrefixTuningOptions,
  seed: number,
  backend: Backend,
): Promise<TrainingMethod> {
  const { architecture } = base;
  const { numVirtualTokens, projection } = options;
  const encoder = await prefixEncoder(architecture, options, seed, backend);
  const width = keyWidth(architecture);
  return {
    name: 'prefix_tuning',
    additions: { ...NO_ADDITIONS, numPrefixTokens: numVirtualTokens },
    parameters: encoder.parameters,
    inputs: async () => ({
      blocks: toBlocks(architecture, numVirtualTokens, await encoder.encode()),
      virtualTokens: null,
      ends: null,
    }),
    backward: ({ blocks }) => encoder.backward(fromBlocks(architecture, numVirtualTokens, blocks)),
    async files() {
      const config = {
        num_virtual_tokens: numVirtualTokens,
        token_dim: width,
        num_transformer_submodules: 1,
        num_attention_heads: architecture.numKvHeads,
        num_layers: architecture.numLayers,
        encoder_hidden_size: projection?.hidden ?? width,
        prefix_projection: projection !== null,
      };
      const shape = [numVirtualTokens, tableWidth(architecture)];
      const table = { shape, data: await encoder.encode() };
      return peftFiles(base, 'PREFIX_TUNING', config, new Map([['prompt_embeddings', table]]));
    },
  };
}

/** Embeddings from N(0, 1) and PyTorch's Linear layers, as in PEFT. */
function prefixEncoder(
  arch: Architecture,
  { numVirtualTokens, projection }: PrefixTuningOptions,
  seed: number,
  backend: Backend,
): Promise<Encoder> {
  const size = projection === null ? tableWidth(arch) : keyWidth(arch);
  const values = normal(numVirtualTokens * size, 1, seed, 0);
  const table = createParameter(EMBEDDING, [numVirtualTokens, size], values);
  if (projection === null) return Promise.resolve(tableEncoder(table));
  const parameters = [
    table,
    ...linearParameters(`${TRANSFORM}.0`, [projection.hidden, size], seed, 1),
    ...linearParameters(`${TRANSFORM}.2`, [tableWidth(arch), projection.hidden], seed, 2),
  ];
  return createEncoder(backend, parameters, (e) =>
    linear(e, e.tanh(linear(e, EMBEDDING, `${TRANSFORM}.0`)), `${TRANSFORM}.2`),
  );
}

/** Of a virtual token's keys in one block: what PEFT calls token_dim. */
function keyWidth({ numKvHeads, headDim }: Architecture): number {
  return numKvHeads * headDim;
}

/** Of a virtual token in all. */
function tableWidth(arch: Architecture): number {
  return 2 * arch.numLayers * keyWidth(arch);
}

/** [V, L*2*heads*D] as each block's `prefix.k` and `prefix.v` [heads, V, D]. */
function toBlocks(arch: Architecture, numTokens: number, table: Float32Array): readonly BlockInputs[] {
  const size = numTokens * keyWidth(arch);
  const blocks = Array.from(
    { length: arch.numLayers },
    () => new Map(KINDS.map((kind) => [kind, new Float32Array(size)])),
  );
  for (const { layer, kind, inTable, inBlock } of headPlaces(arch, numTokens))
    blocks[layer]!.get(kind)!.set(table.subarray(inTable, inTable + arch.headDim), inBlock);
  return blocks;
}

/** The inverse, for gradients. */
function fromBlocks(arch: Architecture, numTokens: number, blocks: readonly BlockInputs[]): Float32Array {
  const table = new Float32Array(numTokens * tableWidth(arch));
  for (const { layer, kind, inTable, inBlock } of headPlaces(arch, numTokens))
    table.set(blocks[layer]!.get(kind)!.subarray(inBlock, inBlock + arch.headDim), inTable);
  return table;
}

const KINDS = ['prefix.k', 'prefix.v'] as const;

/** Where the D numbers of each token and head begin: in a row of PEFT's table at ((layer * 2 + kv) * heads + head) * D. */
function* headPlaces(arch: Architecture, numTokens: number) {
  const { numLayers, numKvHeads, headDim } = arch;
  for (let layer = 0; layer < numLayers; layer++)
    for (const [kv, kind] of KINDS.entries())
      for (let head = 0; head < numKvHeads; head++)
        for (let token = 0; token < numTokens; token++) {
          const column = ((layer * 2 + kv) * numKvHeads + head) * headDim;
          yield {
            layer,
            kind,
            inTable: token * tableWidth(arch) + column,
            inBlock: (head * numTokens + token) * headDim,
          };
        }
}
