// A repository of the Hub as a base model needs it: which of its files, into which folder, and whether they are all there.
// Only safetensors or one GGUF: pickles are never fetched.
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { GatewayError } from '../errors.js';
import { downloadFile, type HubContext } from './hub-download.js';
import { absentAsNull } from './absent-file.js';
import { formatHubReference, type HubReference } from './hub-reference.js';
import { locate, TransferError, transferError } from './hub-transfer.js';

const TEXT_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
];
const INDEX_FILE = 'model.safetensors.index.json';
/** Written last: the names and sizes of a complete download. */
const COMPLETE_FILE = 'complete.json';

const treeSchema = z.array(z.object({ type: z.string(), path: z.string() }));
const completeSchema = z.object({ files: z.array(z.object({ name: z.string(), sizeBytes: z.number() })) });

/** The folder that keeps this reference's files. */
export function repositoryFolder(modelsDir: string, reference: HubReference): string {
  const revision = reference.revision.replaceAll('/', '--');
  return join(modelsDir, `${reference.repo.replace('/', '--')}@${revision}`);
}

/** Names of the complete download's files, or null where something is missing. No network. */
export async function completeFiles(folder: string, file: string | null): Promise<readonly string[] | null> {
  const text = await absentAsNull(readFile(join(folder, completeName(file)), 'utf8'));
  if (text === null) return null;
  const parsed = completeSchema.safeParse(JSON.parse(text));
  if (!parsed.success) return null;
  for (const { name, sizeBytes } of parsed.data.files) {
    const found = await absentAsNull(stat(join(folder, name)));
    if (found?.size !== sizeBytes) return null;
  }
  return parsed.data.files.map(({ name }) => name);
}

/**
 * Downloads what is missing; returns the files' names: one .gguf, or config, tokenizer and safetensors.
 * Throws TransferError, GatewayError unsupported_model, model_not_found, not_permitted, download_failed.
 */
export async function downloadRepository(
  context: HubContext,
  reference: HubReference,
  sha256: string | null,
  folder: string,
): Promise<readonly string[]> {
  const done = await completeFiles(folder, reference.file);
  if (done !== null) return done;
  const names =
    reference.file === null ? chooseFiles(reference, await listFiles(context, reference)) : [reference.file];
  const files: { name: string; sizeBytes: number }[] = [];
  for (const name of names) {
    const target = join(folder, name);
    const present = await absentAsNull(stat(target));
    const path = `/${reference.repo}/resolve/${encodeURIComponent(reference.revision)}/${encodePath(name)}`;
    files.push({ name, sizeBytes: present?.size ?? (await downloadFile(context, { path, sha256 }, target)) });
  }
  await writeAtomically(join(folder, completeName(reference.file)), JSON.stringify({ files }, null, 2));
  return names;
}

/** Of all names in the repository's root, those that make up the model. */
export function chooseFiles(reference: HubReference, all: readonly string[]): readonly string[] {
  const safetensors = all.filter((name) => name.endsWith('.safetensors') && !name.startsWith('adapter_'));
  const ggufs = all.filter((name) => name.endsWith('.gguf'));
  if (all.includes('config.json') && safetensors.length > 0)
    return [...TEXT_FILES.filter((name) => all.includes(name)), ...chooseWeights(all, safetensors)];
  if (ggufs.length === 1) return ggufs;
  const id = formatHubReference(reference);
  if (ggufs.length > 1)
    throw unsupported(`${id} has ${ggufs.length} GGUF files: name one, as in ${reference.repo}:${ggufs[0]}`);
  if (all.includes('adapter_config.json'))
    throw unsupported(`${id} is an adapter, not a base model: register it with \`adapters add\` instead`);
  const pickles = all.filter((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  const instead =
    pickles.length > 0 ? ` (only ${pickles.join(', ')}, which are pickles and never loaded)` : '';
  throw unsupported(`${id} has neither config.json with *.safetensors nor a *.gguf file${instead}`);
}

/** The sharded or the single checkpoint, not both. */
function chooseWeights(all: readonly string[], safetensors: readonly string[]): readonly string[] {
  const shards = safetensors.filter((name) => /^model-\d+-of-\d+\.safetensors$/.test(name));
  if (all.includes(INDEX_FILE) && shards.length > 0) return [INDEX_FILE, ...shards];
  return safetensors.includes('model.safetensors') ? ['model.safetensors'] : safetensors;
}

async function listFiles(context: HubContext, { repo, revision }: HubReference): Promise<readonly string[]> {
  const path = `/api/models/${repo}/tree/${encodeURIComponent(revision)}`;
  const { response, host } = await locate(context.access, context.limits, path);
  let body: unknown;
  try {
    body = await response.json();
  } catch (error) {
    throw transferError(error, host);
  }
  const parsed = treeSchema.safeParse(body);
  if (!parsed.success)
    throw new TransferError(`${host}${path} is not a list of files`, { unreachable: false });
  return parsed.data
    .filter((file) => file.type === 'file' && /^\w[\w. -]*$/.test(file.path))
    .map(({ path: name }) => name);
}

function completeName(file: string | null): string {
  return file === null ? COMPLETE_FILE : `${file.replaceAll('/', '--')}.${COMPLETE_FILE}`;
}

function encodePath(name: string): string {
  return name.split('/').map(encodeURIComponent).join('/');
}

async function writeAtomically(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { flush: true });
  await rename(`${path}.new`, path);
}

function unsupported(message: string): GatewayError {
  return new GatewayError('unsupported_model', message, { param: 'model' });
}
