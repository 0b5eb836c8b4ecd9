// Bottleneck adapters as a manifest's folder holds them: in each block one after the attention's output and one after the MLP's, each
// h += up(silu(down(h) + b)) + c, with down [size, hidden] and up [hidden, size] as PyTorch's Linear stores them.

import { BOTTLENECK_PLACES, type BottleneckPlace } from '../model/bottleneck-nodes.js';
import { CONFIG_FILE } from './adapter-files.js';
import type { AdapterBase } from './base.js';
import { checkBaseSizes, type ConfigFields, countField, valueText } from './config-fields.js';
import { isZero, transposed } from './low-rank.js';
import type { Pacer } from './pacer.js';
import { type AdapterTensor, ofAdapter, ofBase, type PeftTensors } from './peft-tensors.js';
import { unsupportedAdapter } from './refusal.js';
import { changesNothing } from './site-plan.js';
import type { BottleneckAdapter, BottleneckDelta } from './types.js';

export const ACTIVATION = 'silu';

const MODULES: Readonly<Record<BottleneckPlace, string>> = { attention: 'self_attn', mlp: 'mlp' };

/** The module of a block's bottleneck: `model.layers.0.self_attn.bottleneck`, with `_down` and `_up` behind it. */
export function bottleneckModule(layer: number, place: BottleneckPlace): string {
  return `model.layers.${layer}.${MODULES[place]}.bottleneck`;
}

export async function readBottleneck(
  fields: ConfigFields,
  tensors: PeftTensors,
  base: AdapterBase,
  hash: string,
  pacer: Pacer,
): Promise<BottleneckAdapter> {
  const { numLayers, hiddenSize } = base.architecture;
  checkBaseSizes(fields, { num_layers: numLayers, hidden_size: hiddenSize });
  const activation = fields.activation ?? ACTIVATION;
  if (activation !== ACTIVATION)
    throw unsupportedAdapter(
      `${CONFIG_FILE}: Expected \`activation\` to be ${ACTIVATION}, got ${valueText(activation)}`,
      'activation',
    );
  const size = countField(fields, 'bottleneck_size', Number.NaN);
  const perLayer = BOTTLENECK_PLACES.length * (2 * size * hiddenSize + size + hiddenSize);
  const plans = Array.from({ length: numLayers }, (_, layer) =>
    eachPlace((place) => takeBottleneck(tensors, bottleneckModule(layer, place), size, hiddenSize)),
  );
  tensors.finish();
  const layers = [];
  for (const plan of plans) {
    layers.push(eachPlace((place) => readDelta(plan[place], size, hiddenSize)));
    await pacer.spent(perLayer);
  }
  if (layers.every((layer) => BOTTLENECK_PLACES.every((place) => isNoOp(layer[place]))))
    throw changesNothing();
  const sizeBytes = numLayers * perLayer * Float32Array.BYTES_PER_ELEMENT;
  return { kind: 'bottleneck', hash, sizeBytes, size, layers };
}

function eachPlace<T>(make: (place: BottleneckPlace) => T): Record<BottleneckPlace, T> {
  return { attention: make('attention'), mlp: make('mlp') };
}

type BottleneckTensors = Readonly<Record<keyof BottleneckDelta, AdapterTensor>>;

function takeBottleneck(
  tensors: PeftTensors,
  module: string,
  size: number,
  hiddenSize: number,
): BottleneckTensors {
  const [hidden, units] = [ofBase(hiddenSize), ofAdapter(size)];
  return {
    down: tensors.take(`${module}_down.weight`, [units, hidden]),
    downBias: tensors.take(`${module}_down.bias`, [units]),
    up: tensors.take(`${module}_up.weight`, [hidden, units]),
    upBias: tensors.take(`${module}_up.bias`, [hidden]),
  };
}

function readDelta(tensors: BottleneckTensors, size: number, hiddenSize: number): BottleneckDelta {
  return {
    down: transposed({ rows: size, cols: hiddenSize, data: tensors.down.read() }),
    downBias: tensors.downBias.read(),
    up: transposed({ rows: hiddenSize, cols: size, data: tensors.up.read() }),
    upBias: tensors.upBias.read(),
  };
}

/** Whether it adds zero whatever h is. */
function isNoOp({ down, downBias, up, upBias }: BottleneckDelta): boolean {
  const isSilent = isZero(up) || (isZero(down) && isZero(downBias));
  return isSilent && isZero(upBias);
}
