// A folder as the Hugging Face Hub has them: config.json, weights in one safetensors file or in several behind an index, tokenizer files.
// Weights in f32, f16 and bf16.

import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { GatewayError } from '../errors.js';
import { readSafetensorsHeader, readTensorF32, type SafetensorsTensor } from '../formats/safetensors.js';
import type { Checkpoint, CheckpointTensor } from './checkpoint.js';
import { architectureFromConfig } from './config.js';
import { Fields } from './fields.js';
import { type FileSource, openFileSource } from './file-source.js';
import { specialTokensOf } from './special-tokens.js';
import { safetensorsName, tensorList } from './tensor-list.js';
import { hashTensors, matchTensors, type StoredTensor } from './tensor-match.js';

const SINGLE_FILE = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';
const COPIED_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'chat_template.jinja',
  'config.json',
];
const DTYPES = ['F32', 'F16', 'BF16'];

type LocatedTensor = StoredTensor & SafetensorsTensor;

/** Throws GatewayError not_found, unsupported_model, invalid_file. */
export function openSafetensorsCheckpoint(folder: string): Checkpoint {
  const file = basename(folder);
  const config = readJson(folder, 'config.json');
  if (config === null)
    throw new GatewayError('not_found', `${folder} has no config.json; name a checkpoint's folder`, {
      param: folder,
    });
  const architecture = architectureFromConfig(config, `${file}/config.json`);
  const sources: FileSource[] = [];
  const close = () => sources.forEach((source) => source.close());
  try {
    const stored = locateTensors(folder, sources);
    const specs = tensorList(architecture);
    const expected = specs.map(({ name, shape }) => ({ name: safetensorsName(name), shape }));
    matchTensors(file, stored, expected, (name) => isIgnored(name, stored, architecture.tiedHead));
    return {
      file,
      architecture,
      tensors: new Map(specs.map(({ name }) => [name, tensorOf(safetensorsName(name), stored)])),
      ...specialTokensOf((name) => readJson(folder, name)),
      files: smallFiles(folder),
      hash: () => hashTensors(stored),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

function locateTensors(folder: string, sources: FileSource[]): Map<string, LocatedTensor> {
  const stored = new Map<string, LocatedTensor>();
  for (const [weightsFile, promised] of weightFiles(folder)) {
    const source = openFileSource(join(folder, weightsFile));
    sources.push(source);
    const { tensors } = readSafetensorsHeader(source);
    const lacking = promised.find((name) => !tensors.has(name));
    if (lacking !== undefined)
      throw invalid(
        folder,
        `${INDEX_FILE} says that tensor \`${lacking}\` is in ${weightsFile}, but it is not`,
      );
    for (const [name, tensor] of tensors) {
      if (stored.has(name))
        throw invalid(folder, `tensor \`${name}\` is in ${weightsFile} and in another file too`);
      if (!DTYPES.includes(tensor.dtype))
        throw new GatewayError(
          'unsupported_model',
          `${weightsFile}: tensor \`${name}\` is ${tensor.dtype}; supported: ${DTYPES.join(', ')}`,
          { param: weightsFile },
        );
      stored.set(name, { ...tensor, source });
    }
  }
  return stored;
}

/** The files with weights, each with the tensors that the index promises in it. */
function weightFiles(folder: string): ReadonlyMap<string, readonly string[]> {
  if (existsSync(join(folder, SINGLE_FILE))) return new Map([[SINGLE_FILE, []]]);
  const index = readJson(folder, INDEX_FILE);
  if (index === null)
    throw new GatewayError(
      'not_found',
      `${folder} has neither ${SINGLE_FILE} nor ${INDEX_FILE}; other formats (.bin, .pt) are not read`,
      { param: folder },
    );
  const map = Fields.ofJson(INDEX_FILE, index).object('weight_map');
  if (map === null) throw invalid(folder, `${INDEX_FILE} has no weight_map`);
  const files = new Map<string, string[]>();
  for (const name of map.keys()) {
    const weightsFile = map.text(name);
    if (!/^[\w.-]+\.safetensors$/.test(weightsFile))
      throw invalid(folder, `Expected \`${name}\` of ${INDEX_FILE} to be a file name, got ${weightsFile}`);
    files.set(weightsFile, [...(files.get(weightsFile) ?? []), name]);
  }
  return files;
}

/** Position tables that old checkpoints carry, and a tied head that is saved although it equals the embedding. */
function isIgnored(name: string, stored: ReadonlyMap<string, LocatedTensor>, tiedHead: boolean): boolean {
  if (/^model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq$/.test(name)) return true;
  if (!tiedHead || name !== safetensorsName('lm_head')) return false;
  const embedding = stored.get(safetensorsName('embed_tokens'));
  const hashes = [embedding, stored.get(name)].map((tensor) => hashTensors(new Map([['', tensor!]])));
  return hashes[0] === hashes[1];
}

function tensorOf(sourceName: string, stored: ReadonlyMap<string, LocatedTensor>): CheckpointTensor {
  const tensor = stored.get(sourceName)!;
  const rowBytes = tensor.length / tensor.shape[0]!;
  return {
    shape: tensor.shape,
    sourceName,
    readRows(start, end) {
      const part = { offset: tensor.offset + start * rowBytes, length: (end - start) * rowBytes };
      return { kind: 'f32', values: readTensorF32(tensor.source, { ...tensor, ...part }) };
    },
  };
}

function smallFiles(folder: string): ReadonlyMap<string, Uint8Array> {
  const present = COPIED_FILES.filter((name) => existsSync(join(folder, name)));
  return new Map(present.map((name) => [name, readFileSync(join(folder, name))]));
}

/** The parsed file, or null where there is none. */
function readJson(folder: string, name: string): unknown {
  const path = join(folder, name);
  if (!existsSync(path)) return null;
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new GatewayError('invalid_file', `${path} is not valid JSON: ${(cause as Error).message}`, {
      param: name,
      cause,
    });
  }
}

function invalid(folder: string, problem: string): GatewayError {
  return new GatewayError('invalid_file', `${basename(folder)}: ${problem}`, { param: INDEX_FILE });
}
