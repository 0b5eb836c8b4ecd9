// The tensors of adapter_model.safetensors by module and parameter, each taken exactly once: what is missing, mis-shaped, unexpected or
// there under two names is refused by name. Values are read later, when all shapes are known to fit.

import { bytesSource } from '../formats/byte-source.js';
import {
  readSafetensorsHeader,
  readTensorF32,
  type SafetensorsHeader,
  type SafetensorsTensor,
} from '../formats/safetensors.js';
import { GatewayError } from '../errors.js';
import { WEIGHTS_FILE } from './adapter-files.js';
import { firstNonFinite } from './finite.js';
import { baseMismatch, invalidAdapter, shapeText, unsupportedAdapter } from './refusal.js';

/** A size that a tensor must have: `base` sizes come from the base model, `adapter` sizes from the adapter's own configuration. */
export interface Dim {
  readonly size: number;
  readonly from: 'base' | 'adapter';
}
export const ofBase = (size: number): Dim => ({ size, from: 'base' });
export const ofAdapter = (size: number): Dim => ({ size, from: 'adapter' });

export interface AdapterTensor {
  /** The key in the file. */
  readonly key: string;
  readonly shape: readonly number[];
  /** The values in row-major order. Throws invalid_adapter where one is not finite. */
  read(): Float32Array;
}

export interface PeftTensors {
  /** Of the file's header: string -> string. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Throws invalid_adapter or adapter_base_mismatch where it is missing or has another shape. */
  take(name: string, dims: readonly Dim[]): AdapterTensor;
  /** As take(), without a check of the shape; null where it is missing. */
  takeAny(name: string): AdapterTensor | null;
  /** Refuses what nobody took. */
  finish(): void;
}

const PREFIX = 'base_model.model.';
/** PEFT drops the adapter's name from its keys; files written by other means keep that of the only adapter. */
const ADAPTER_NAME =
  /\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|ia3_l|hada_\w+|lokr_\w+)\.default(?=\.|$)/;

/** Reads the header. `numLayers` is the base's. Throws invalid_adapter, or adapter_base_mismatch for tensors of further layers. */
export function openPeftTensors(bytes: Uint8Array, numLayers: number): PeftTensors {
  const source = bytesSource(WEIGHTS_FILE, bytes);
  const header = asAdapterFault(() => readSafetensorsHeader(source));
  const entries = canonicalNames(header);
  const numLayersFound = checkLayers(header, numLayers);
  const taken = new Set<string>();

  function takeAny(name: string): AdapterTensor | null {
    const entry = entries.get(name);
    if (entry === undefined) return null;
    taken.add(name);
    const read = () => readFinite(entry.key, () => readTensorF32(source, entry.tensor));
    return { key: entry.key, shape: entry.tensor.shape, read };
  }
  function take(name: string, dims: readonly Dim[]): AdapterTensor {
    const tensor = takeAny(name);
    if (tensor === null) throw missing(name, dims, numLayersFound, numLayers);
    checkShape(tensor, dims);
    return tensor;
  }
  function finish(): void {
    for (const [name, { key }] of entries) if (!taken.has(name)) throw unexpected(name, key);
  }
  return { metadata: header.metadata, take, takeAny, finish };
}

interface Entry {
  readonly key: string;
  readonly tensor: SafetensorsTensor;
}

function canonicalNames(header: SafetensorsHeader): ReadonlyMap<string, Entry> {
  const entries = new Map<string, Entry>();
  if (header.tensors.size === 0)
    throw invalidAdapter(
      `${WEIGHTS_FILE} holds no tensors; save the adapter again after training`,
      WEIGHTS_FILE,
    );
  for (const [key, tensor] of header.tensors) {
    const bare = key.startsWith(PREFIX) ? key.slice(PREFIX.length) : key;
    const name = bare
      .replace(ADAPTER_NAME, '.$1')
      .replace(/\.lora_magnitude_vector\.weight$/, '.lora_magnitude_vector');
    const isKnownPlace = key.startsWith(PREFIX) || key === 'prompt_embeddings';
    if (!isKnownPlace)
      throw invalidAdapter(
        `${WEIGHTS_FILE}: unexpected tensor \`${key}\`; PEFT's names begin with ${PREFIX}`,
        key,
      );
    const twin = entries.get(name);
    if (twin !== undefined)
      throw invalidAdapter(
        `${WEIGHTS_FILE}: \`${twin.key}\` and \`${key}\` are the same tensor; keep one of them`,
        key,
      );
    entries.set(name, { key, tensor });
  }
  return entries;
}

/** The number of layers that the file's tensors speak of. */
function checkLayers(header: SafetensorsHeader, numLayers: number): number {
  let found = 0;
  for (const key of header.tensors.keys()) {
    const layer = Number(/\.layers\.(\d+)\./.exec(key)?.[1] ?? -1);
    if (layer >= numLayers)
      throw baseMismatch(
        `${WEIGHTS_FILE}: \`${key}\` is for layer ${layer}, the base has ${numLayers} layers; this adapter was trained on another model`,
        key,
      );
    found = Math.max(found, layer + 1);
  }
  return found;
}

function missing(name: string, dims: readonly Dim[], numLayersFound: number, numLayers: number) {
  const key = name === 'prompt_embeddings' ? name : `${PREFIX}${name}`;
  const layer = Number(/\.layers\.(\d+)\./.exec(key)?.[1] ?? -1);
  if (numLayersFound > 0 && layer >= numLayersFound)
    return baseMismatch(
      `${WEIGHTS_FILE} has tensors for ${numLayersFound} layers, the base has ${numLayers} (\`${key}\` is missing); this adapter was trained on another model`,
      key,
    );
  return invalidAdapter(
    `${WEIGHTS_FILE}: tensor \`${key}\` of shape ${dimsText(dims)} is missing, though the configuration asks for it; save the adapter again`,
    key,
  );
}

function checkShape(tensor: AdapterTensor, dims: readonly Dim[]): void {
  const { key, shape } = tensor;
  const wrong = dims.filter((dim, axis) => dim.size !== shape[axis]);
  if (shape.length === dims.length && wrong.length === 0) return;
  const text = `${WEIGHTS_FILE}: Expected \`${key}\` to have shape ${dimsText(dims)}, got ${shapeText(shape)}`;
  if (shape.length === dims.length && wrong.every((dim) => dim.from === 'base'))
    throw baseMismatch(`${text}; this adapter was trained on a model of other sizes`, key);
  throw invalidAdapter(`${text}; the file and the configuration disagree`, key);
}

function dimsText(dims: readonly Dim[]): string {
  return shapeText(dims.map((dim) => dim.size));
}

/** Trained parts of the model that no served method has, with the words their users know. */
const UNSERVED: readonly (readonly [RegExp, string])[] = [
  [
    /lora_embedding_[AB]$|embed_tokens\./,
    'adapters of the token embedding are not served; train without embed_tokens',
  ],
  [/^lm_head\./, 'adapters of the output head are not served; train without lm_head'],
  [/trainable_tokens/, 'trained token embeddings are not served; train without trainable_token_indices'],
  [/ln_tuning|layernorm|norm\./, 'trained norms are not served; train without them'],
];

function unexpected(name: string, key: string) {
  const reason = UNSERVED.find(([pattern]) => pattern.test(name))?.[1];
  if (reason !== undefined) return unsupportedAdapter(`${WEIGHTS_FILE}: \`${key}\`: ${reason}`, key);
  return invalidAdapter(
    `${WEIGHTS_FILE}: unexpected tensor \`${key}\`: nothing in the configuration asks for it; save the adapter again, or set the configuration right`,
    key,
  );
}

function readFinite(key: string, read: () => Float32Array): Float32Array {
  const values = asAdapterFault(read);
  const at = firstNonFinite(values);
  if (at >= 0)
    throw invalidAdapter(
      `${WEIGHTS_FILE}: \`${key}\` holds ${values[at]} at index ${at}; train again with a lower learning rate or save in f32`,
      key,
    );
  return values;
}

/** The format reader does not know that the file is an adapter's. */
function asAdapterFault<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'invalid_file')
      throw invalidAdapter(error.message, error.param ?? WEIGHTS_FILE, error);
    throw error;
  }
}
