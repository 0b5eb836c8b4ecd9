// The composition root: a model made ready, and an engine over it. What a server has beside the engine is in gateway.ts.
import { createHash } from 'node:crypto';
import { existsSync, realpathSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { adapterBase } from './adapters/base.js';
import { checkHost } from './cli/reachable-host.js';
import type { OpenModel } from './cli/serve.js';
import type { Config } from './config.js';
import { openEngine, type OpenEngine } from './engine/open-engine.js';
import { chooseKernels } from './runtime/native-kernels.js';
import { GatewayError } from './errors.js';
import type { Gateway, Ui } from './gateway.js';
import { openArtifact, type Artifact } from './model/artifact-reader.js';
import { resolveModelSource, type ModelSource } from './model/hub.js';
import { originalWindow, withRopeScaling } from './model/rope-choice.js';
import { openTokenizer } from './tokenizer/open-tokenizer.js';

const DEFAULT_CONTEXT = 2048;
const PREFIX_CACHE_BYTES = 256 * 2 ** 20;

/** Listens on return. `runModule` is the URL of a module that exports runTraining, in place of the trainer. */
export async function startServer(config: Config, ui: Ui, runModule: string | null = null): Promise<Gateway> {
  await checkHost(config);
  const artifact = withRopeScaling(openArtifact(await prepareModel(config, ui)), config.ropeScaling);
  // The gateway's modules are many: they are read while the engine's session loads on a thread of its own.
  const [engine, { startGateway }] = await Promise.all([
    openConfiguredEngine(artifact, config),
    import('./gateway.js'),
  ]);
  const tokenizer = openTokenizer(artifact.folder);
  return startGateway({ artifact, config, engine, tokenizer, ui, runModule });
}

/** A converted model with an engine over it, for commands that compute without a server. */
export async function openModel(folder: string, config: Config): Promise<OpenModel> {
  const artifact = openArtifact(folder);
  const open = await openConfiguredEngine(artifact, config);
  const tokenizer = openTokenizer(folder);
  const base = adapterBase(artifact, tokenizer.chatTemplateHash);
  return {
    name: base.name,
    base,
    tokenizer,
    engine: open.engine,
    runner: open.runner,
    dispose: () => open.dispose(),
  };
}

/** Downloads and converts the model once; returns the artifact's folder. */
export async function prepareModel(
  config: Pick<Config, 'model' | 'weights' | 'dataDir'>,
  ui: Ui,
  convertedFolder = join(config.dataDir, 'converted'),
): Promise<string> {
  const source = await resolveModelSource(config.model, { dataDir: config.dataDir, ui, env: process.env });
  const folder = join(convertedFolder, await artifactName(source, config.weights));
  if (existsSync(folder)) return folder;
  // Only a first start converts.
  const { importModel } = await import('./model/import.js');
  const { tokenizerFilesFromGguf } = await import('./tokenizer/gguf-tokenizer.js');
  const label = `converting ${source.name}`;
  await importModel({
    sourcePath: source.path,
    outputFolder: folder,
    weights: config.weights,
    name: source.name,
    source: source.source,
    tokenizerFiles: (metadata) => {
      const { tokenizerJson, tokenizerConfig, generationConfig, chatTemplate } =
        tokenizerFilesFromGguf(metadata);
      return {
        'tokenizer.json': JSON.stringify(tokenizerJson),
        'tokenizer_config.json': JSON.stringify(tokenizerConfig),
        'generation_config.json': JSON.stringify(generationConfig),
        ...(chatTemplate === undefined ? {} : { 'chat_template.jinja': chatTemplate }),
      };
    },
    onProgress: ({ done, total }) => ui.progress(label, done, total),
  });
  return folder;
}

/** Changes when the source's files do. */
async function artifactName(source: ModelSource, weights: string): Promise<string> {
  const paths =
    source.kind === 'gguf'
      ? [source.path]
      : (await readdir(source.path)).toSorted().map((file) => join(source.path, file));
  // Another way to the same folder is the same model.
  const realPath = (path: string): string => join(realpathSync(dirname(path)), basename(path));
  const stamps = paths.map((path) => `${realPath(path)} ${statSync(path).size} ${statSync(path).mtimeMs}`);
  const key = createHash('sha256').update(stamps.join('\n')).digest('hex').slice(0, 12);
  return `${source.name.replaceAll(/[^\w.-]/g, '_')}-${weights}-${key}`;
}

function openConfiguredEngine(artifact: Artifact, config: Config): Promise<OpenEngine> {
  return openEngine({
    artifactFolder: artifact.folder,
    manifest: artifact.manifest,
    embedding: artifact.readEmbeddingTable(),
    threads: config.threads,
    kernels: chooseKernels(config.kernels),
    slots: config.slots,
    contextLength: contextOf(artifact, config.context),
    prefillChunk: config.prefillChunk,
    maxWaiting: config.queue,
    prefixCacheBytes: config.prefixCache ? PREFIX_CACHE_BYTES : 0,
    plainLora: config.loraPath === 'plain',
    batchPrompts: true,
    promptLookup: config.promptLookup,
  });
}

/** A checkpoint's own dynamic scaling is made to reach further than its length; nothing else is. */
function contextOf({ manifest }: Artifact, asked: number | null): number {
  const { contextLength, ropeScaling } = manifest.architecture;
  const isOpen = ropeScaling?.type === 'dynamic' && contextLength === originalWindow(manifest.architecture);
  if (asked === null) return Math.min(DEFAULT_CONTEXT, contextLength);
  if (asked > contextLength && !isOpen)
    throw new GatewayError(
      'invalid_config',
      `Expected \`context\` to be at most ${contextLength}, what ${manifest.name} was made for, got ${asked}; \`rope-scaling\` reaches further.`,
      { param: 'context' },
    );
  return asked;
}
