// Which biases a format has words for. A base without biases may have got some from its adapter; a format may only have several of
// them together, and then the others are zeros.

import { GatewayError } from '../errors.js';
import type { Architecture, Family, Projection } from './architecture.js';

export type ExportFormat = 'safetensors' | 'gguf';

const GROUPS = {
  qkv: ['q_proj', 'k_proj', 'v_proj'],
  o: ['o_proj'],
  mlp: ['gate_proj', 'up_proj', 'down_proj'],
} as const satisfies Record<string, readonly Projection[]>;
type BiasGroup = keyof typeof GROUPS;

/** Those in one list are all there or all absent: transformers' `attention_bias` and `mlp_bias`, llama.cpp's optional tensors. */
const HOLDS: Readonly<Record<ExportFormat, Readonly<Record<Family, readonly (readonly BiasGroup[])[]>>>> = {
  safetensors: { llama: [['qkv', 'o'], ['mlp']], mistral: [], qwen2: [['qkv']], qwen3: [['qkv', 'o']] },
  gguf: {
    llama: [['qkv'], ['o'], ['mlp']],
    mistral: [['qkv'], ['o'], ['mlp']],
    qwen2: [['qkv']],
    qwen3: [['qkv']],
  },
};

/**
 * The architecture with every bias that the format needs to hold the base's own and those of `added`.
 * Throws GatewayError unsupported_model naming the projections whose biases it cannot hold.
 */
export function withBiases(
  arch: Architecture,
  added: ReadonlySet<Projection>,
  format: ExportFormat,
): Architecture {
  const needed = neededGroups(arch, added);
  const lists = HOLDS[format][arch.family];
  const lacking = [...needed].filter((group) => !lists.flat().includes(group));
  if (lacking.length > 0) throw cannotHold(arch, lacking, format);
  // transformers' qwen2 always has them.
  if (format === 'safetensors' && arch.family === 'qwen2') needed.add('qkv');
  const held = new Set(lists.filter((list) => list.some((group) => needed.has(group))).flat());
  return { ...arch, qkvBias: held.has('qkv'), outputBias: held.has('o'), mlpBias: held.has('mlp') };
}

function neededGroups(arch: Architecture, added: ReadonlySet<Projection>): Set<BiasGroup> {
  const own = { qkv: arch.qkvBias, o: arch.outputBias, mlp: arch.mlpBias };
  const groups = Object.keys(GROUPS) as BiasGroup[];
  return new Set(
    groups.filter((group) => own[group] || GROUPS[group].some((projection) => added.has(projection))),
  );
}

function cannotHold(arch: Architecture, lacking: readonly BiasGroup[], format: ExportFormat): GatewayError {
  const other: ExportFormat = format === 'gguf' ? 'safetensors' : 'gguf';
  const otherHolds = lacking.every((group) => HOLDS[other][arch.family].flat().includes(group));
  const projections = lacking.flatMap((group) => GROUPS[group]).join(', ');
  return new GatewayError(
    'unsupported_model',
    `The result has biases on ${projections}, which ${format} has no place for in the ${arch.family} family; ` +
      (otherHolds ? `export it as ${other}` : 'use the adapter unmerged'),
    { param: 'format' },
  );
}
