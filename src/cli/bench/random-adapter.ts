// PEFT adapters of seeded random values for any base, as files: what an upload takes. Nothing is written to disk.
import { randomStream } from '../../engine/random.js';
import { writeSafetensors } from '../../formats/safetensors.js';
import { PROJECTIONS, projectionPath, projectionShape, type Architecture } from '../../model/architecture.js';

const RANK = 16;
const STRENGTH = 0.01;

/** adapter_config.json and adapter_model.safetensors: LoRA of rank 16 on all seven projections. */
export function randomAdapter(
  arch: Architecture,
  seed: number,
): ReadonlyMap<string, Uint8Array<ArrayBuffer>> {
  const random = randomStream(seed);
  const values = (size: number): Float32Array =>
    Float32Array.from({ length: size }, () => (2 * random() - 1) * STRENGTH);
  const tensors = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (let layer = 0; layer < arch.numLayers; layer++) {
    for (const projection of PROJECTIONS) {
      const [out, input] = projectionShape(arch, projection);
      const module = `base_model.model.model.layers.${layer}.${projectionPath(projection)}`;
      tensors.set(`${module}.lora_A.weight`, { shape: [RANK, input], data: values(RANK * input) });
      tensors.set(`${module}.lora_B.weight`, { shape: [out, RANK], data: values(out * RANK) });
    }
  }
  const config = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    r: RANK,
    lora_alpha: RANK,
    lora_dropout: 0,
    bias: 'none',
    target_modules: PROJECTIONS,
  };
  return new Map([
    ['adapter_config.json', new TextEncoder().encode(JSON.stringify(config))],
    ['adapter_model.safetensors', new Uint8Array(writeSafetensors(tensors))],
  ]);
}

/** The same values but for the last, so that the content is new: cheaper than another adapter. */
export function changedAdapter(
  files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
  version: number,
): ReadonlyMap<string, Uint8Array<ArrayBuffer>> {
  return new Map(
    [...files].map(([name, bytes]) => {
      if (!name.endsWith('.safetensors')) return [name, bytes] as const;
      const copy = bytes.slice();
      new DataView(copy.buffer).setFloat32(copy.length - 4, 1e-6 * (version + 1), true);
      return [name, copy] as const;
    }),
  );
}

export function asBlobs(files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>): ReadonlyMap<string, Blob> {
  return new Map([...files].map(([name, bytes]) => [name, new Blob([bytes])]));
}
