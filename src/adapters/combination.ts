// Several LoRAs as one: y += sum of scale_i * delta_i is a LoRA whose rank is the sum of theirs, with A side by side along the rank and
// the scaled B one below the other. Exact, and served like any other.

import { createHash } from 'node:crypto';
import { GatewayError } from '../errors.js';
import { PROJECTIONS, type Projection, projectionShape, type Architecture } from '../model/architecture.js';
import { firstNonFinite } from './finite.js';
import type { Pacer } from './pacer.js';
import { loraAdapter } from './lora-adapter.js';
import { unsupportedAdapter } from './refusal.js';
import type { AdapterInfo, LoraAdapter, LoraDelta, ServingAdapter } from './types.js';

const PARAM = 'adapters';
/** A bound on the work that one request can ask for. */
export const MAX_COMBINED = 16;

export interface CombinationPart {
  readonly info: AdapterInfo;
  readonly scale: number;
}

/** Throws GatewayError invalid_value. */
export function checkParts(parts: readonly { readonly name: string; readonly scale: number }[]): void {
  if (parts.length === 0 || parts.length > MAX_COMBINED)
    throw invalidParts(`Expected \`${PARAM}\` to list 1 to ${MAX_COMBINED} adapters, got ${parts.length}`);
  const names = new Set<string>();
  for (const { name, scale } of parts) {
    if (!Number.isFinite(scale))
      throw invalidParts(`Expected the scale of ${JSON.stringify(name)} to be a finite number, got ${scale}`);
    if (names.has(name))
      throw invalidParts(`\`${PARAM}\` lists ${JSON.stringify(name)} twice; add up its scales instead`);
    names.add(name);
  }
}

/** One order for the same parts, whichever way they were listed. */
export function inOrder(parts: readonly CombinationPart[]): readonly CombinationPart[] {
  return parts.toSorted((a, b) =>
    a.info.hash < b.info.hash ? -1 : a.info.hash > b.info.hash ? 1 : a.scale - b.scale,
  );
}

/** Made of the parts' hashes and scales. The parts are in order. */
export function combinationHash(parts: readonly CombinationPart[]): string {
  const identity = JSON.stringify(parts.map(({ info, scale }) => [info.hash, scale]));
  return createHash('sha256').update(`combination\0${identity}`).digest('hex');
}

/** What people see of it. The parts are in order. */
export function combinationInfo(parts: readonly CombinationPart[], owner: string): AdapterInfo {
  const infos = parts.map((part) => part.info);
  return {
    name: parts.map(({ info, scale }) => `${info.name}*${scale}`).join('+'),
    owner,
    version: 1,
    hash: combinationHash(parts),
    peftType: 'LORA',
    servedAs: 'lora',
    rank: infos.reduce((sum, info) => sum + (info.rank ?? 0), 0),
    targetModules: [...new Set(infos.flatMap((info) => info.targetModules))].toSorted(),
    numVirtualTokens: null,
    sizeBytes: infos.reduce((sum, info) => sum + info.sizeBytes, 0),
    base: infos[0]!.base,
    createdAt: Math.max(...infos.map((info) => info.createdAt)),
  };
}

/** A part must be made of low-rank updates alone: factors and biases do not add up. Throws GatewayError unsupported_adapter. */
export function checkCombinable(name: string, adapter: ServingAdapter): LoraAdapter {
  if (adapter.kind !== 'lora')
    throw unsupportedAdapter(
      `${name} is a ${adapter.kind}, which cannot be combined; name it alone as the model`,
      PARAM,
    );
  const affine = adapter.layers.findIndex((layer) => Object.keys(layer.affine).length > 0);
  if (affine >= 0)
    throw unsupportedAdapter(
      `${name} has output factors or biases (DoRA, IA3, trained biases) in layer ${affine}, which cannot be combined; name it alone as the model`,
      PARAM,
    );
  return adapter;
}

/** The combination under the given hash. Throws GatewayError invalid_value where a scale makes values overflow. */
export async function combineLoras(
  arch: Architecture,
  hash: string,
  parts: readonly { readonly adapter: LoraAdapter; readonly scale: number }[],
  pacer: Pacer,
): Promise<LoraAdapter> {
  const layers = Array.from({ length: arch.numLayers }, () => ({
    lora: {} as Partial<Record<Projection, LoraDelta>>,
    affine: {},
  }));
  for (const [index, layer] of layers.entries())
    for (const projection of PROJECTIONS) {
      const deltas = parts.flatMap(({ adapter, scale }) => {
        const delta = adapter.layers[index]!.lora[projection];
        return delta === undefined ? [] : [{ delta, scale }];
      });
      if (deltas.length === 0) continue;
      const joined = joinDeltas(deltas, projectionShape(arch, projection));
      layer.lora[projection] = joined;
      await pacer.spent(joined.a.length + joined.b.length);
    }
  return loraAdapter(hash, layers);
}

function joinDeltas(
  deltas: readonly { readonly delta: LoraDelta; readonly scale: number }[],
  [out, input]: readonly [number, number],
): LoraDelta {
  const rank = deltas.reduce((sum, { delta }) => sum + delta.rank, 0);
  const a = new Float32Array(input * rank);
  const b = new Float32Array(rank * out);
  let start = 0;
  for (const { delta, scale } of deltas) {
    for (let row = 0; row < input; row++)
      a.set(delta.a.subarray(row * delta.rank, (row + 1) * delta.rank), row * rank + start);
    for (let at = 0; at < delta.b.length; at++) b[start * out + at] = delta.b[at]! * scale;
    start += delta.rank;
  }
  if (firstNonFinite(b) >= 0)
    throw invalidParts('a scale is so large that the combined adapter is beyond f32; choose smaller scales');
  return { rank, a, b };
}

function invalidParts(message: string): GatewayError {
  return new GatewayError('invalid_value', message, { param: PARAM });
}
