// The composition root: the only file that builds the object graph.
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Gauge, Registry } from 'prom-client';
import { adapterFiles, hashAdapter } from './adapters/adapter-files.js';
import { readAdapterFolder } from './adapters/adapter-folder.js';
import { adapterBase } from './adapters/base.js';
import { createPacer } from './adapters/pacer.js';
import { createAdapterService, type LocalAdapterService } from './adapters/service.js';
import type { OpenModel } from './cli/serve.js';
import type { Config } from './config.js';
import { openEngine, type OpenEngine } from './engine/open-engine.js';
import { GatewayError } from './errors.js';
import type { ArchiveLimits } from './formats/archive.js';
import { openArtifact, type Artifact } from './model/artifact-reader.js';
import { resolveModelSource, type ModelSource } from './model/hub.js';
import { createApp, type Listener, type Logger, sampleAdapter, serve } from './server/index.js';
import { openTokenizer } from './tokenizer/open-tokenizer.js';
import type { TextTokenizer } from './tokenizer/types.js';
import { createTrainingService } from './train/jobs/service.js';
import type { TrainingDatabase } from './train/jobs/tables.js';
import type { TrainingService } from './train/jobs/types.js';
import { workerStarter } from './train/jobs/worker-process.js';

interface Ui {
  progress(label: string, done: number, total: number): void;
  log(line: string): void;
}

const MB = 2 ** 20;
const DEFAULT_CONTEXT = 2048;
const PREFIX_CACHE_BYTES = 256 * MB;
const MAX_ADAPTER_FILES = 64;

/** Listens on return. `runModule` is the URL of a module that exports runTraining, in place of the trainer. */
export async function startServer(
  config: Config,
  ui: Ui,
  runModule: string | null = null,
): Promise<{ url: string; close(): Promise<void> }> {
  const artifact = openArtifact(await prepareModel(config, ui));
  const { engine, tokenizer } = await openBase(artifact, config);
  const adapters = await createAdapterService({
    dataDir: config.dataDir,
    base: adapterBase(artifact, tokenizer.chatTemplateHash),
    cacheBytes: config.adapterCacheMb * MB,
    runPrompt: (embeddings) => engine.engine.computePrefix(embeddings),
  });
  for (const { name, path } of config.adapter) await registerFolder(adapters, name, path);
  const logger = createLogger(config.logLevel, ui);
  const training = await openTraining({ artifact, config, engine, tokenizer, adapters, logger, runModule });
  const app = createApp({
    engine: engine.engine,
    tokenizer,
    adapters,
    training,
    base: baseDescription(artifact),
    readArchive: async (bytes, filename) => {
      const { readArchive } = await import('./formats/archive.js');
      return readArchive(bytes, filename, archiveLimits(config));
    },
    readAdapterFolder,
    metricsRegistry: createMetricsRegistry(engine),
    clock: Date.now,
    limits: { maxUploadBytes: config.maxUploadMb * MB },
    runtimeLora: runtimeLora(config),
    isReady: () => true,
    logger,
  });
  const listener = await listen(app, config, training);
  return {
    url: listener.url,
    close: async () => {
      await Promise.all([training.close(), listener.close()]);
      await engine.dispose();
      await adapters.dispose();
    },
  };
}

interface TrainingParts {
  readonly artifact: Artifact;
  readonly config: Config;
  readonly engine: OpenEngine;
  readonly tokenizer: TextTokenizer;
  readonly adapters: LocalAdapterService;
  readonly logger: Logger;
  readonly runModule: string | null;
}

function openTraining(parts: TrainingParts): Promise<TrainingService> {
  const { artifact, config, adapters, tokenizer, logger, runModule } = parts;
  const { engine } = parts.engine;
  const base = adapterBase(artifact, tokenizer.chatTemplateHash);
  const runPrompt: typeof engine.computePrefix = (embeddings) => engine.computePrefix(embeddings);
  return createTrainingService({
    // The schema of its own tables, on the same connection.
    database: adapters.database as unknown as TrainingDatabase,
    dataDir: config.dataDir,
    artifactFolder: artifact.folder,
    base: {
      name: base.name,
      baseHash: base.baseHash,
      contextLength: artifact.manifest.architecture.contextLength,
    },
    adapters,
    threads: config.trainThreads,
    yielding: { isOn: config.trainYield, minShare: config.trainMinShare / 100 },
    isBusy: () => {
      const { numRunning, numWaiting } = engine.stats();
      return numRunning + numWaiting > 0;
    },
    sample: (prompts, files, signal) =>
      sampleAdapter({ engine, tokenizer, base, runPrompt }, prompts, files, signal),
    startWorker: workerStarter(runModule),
    clock: Date.now,
    log: logger,
  });
}

/** Lets go of a job that has begun where the address cannot be taken. */
async function listen(
  app: ReturnType<typeof createApp>,
  { host, port }: Config,
  training: TrainingService,
): Promise<Listener> {
  try {
    return await serve(app, { host, port });
  } catch (error) {
    await training.close();
    throw error;
  }
}

/** A converted model with an engine over it, for commands that compute without a server. */
export async function openModel(folder: string, config: Config): Promise<OpenModel> {
  const artifact = openArtifact(folder);
  const { engine: open, tokenizer } = await openBase(artifact, config);
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
  const stamps = paths.map((path) => `${path} ${statSync(path).size} ${statSync(path).mtimeMs}`);
  const key = createHash('sha256').update(stamps.join('\n')).digest('hex').slice(0, 12);
  return `${source.name.replaceAll(/[^\w.-]/g, '_')}-${weights}-${key}`;
}

/** The tokenizer is made while the engine's session loads. */
async function openBase(
  artifact: Artifact,
  config: Config,
): Promise<{ engine: OpenEngine; tokenizer: TextTokenizer }> {
  const [engine, tokenizer] = await Promise.all([
    openConfiguredEngine(artifact, config),
    openTokenizer(artifact.folder),
  ]);
  return { engine, tokenizer };
}

function openConfiguredEngine(artifact: Artifact, config: Config): Promise<OpenEngine> {
  return openEngine({
    artifactFolder: artifact.folder,
    manifest: artifact.manifest,
    embedding: artifact.readEmbeddingTable(),
    threads: config.threads,
    slots: config.slots,
    contextLength: contextOf(artifact, config.context),
    prefillChunk: config.prefillChunk,
    maxWaiting: config.queue,
    prefixCacheBytes: config.prefixCache ? PREFIX_CACHE_BYTES : 0,
    plainLora: config.loraPath === 'plain',
    batchPrompts: true,
  });
}

/** Dynamic rope scaling is made to reach further than the checkpoint's own length; nothing else is. */
function contextOf({ manifest }: Artifact, asked: number | null): number {
  const { contextLength, ropeScaling } = manifest.architecture;
  if (asked === null) return Math.min(DEFAULT_CONTEXT, contextLength);
  if (asked > contextLength && ropeScaling?.type !== 'dynamic')
    throw new GatewayError(
      'invalid_config',
      `Expected \`context\` to be at most ${contextLength}, what ${manifest.name} was made for, got ${asked}.`,
      { param: 'context' },
    );
  return asked;
}

/** The runtime is no part of the server's protocol, so its gauge is made here. */
function createMetricsRegistry(open: OpenEngine): Registry {
  const registry = new Registry();
  registry.registerMetric(
    new Gauge({
      name: 'runtime_native_handles',
      help: 'Native tensors and sessions that are alive',
      registers: [],
      collect() {
        this.set(open.liveHandles());
      },
    }),
  );
  return registry;
}

async function registerFolder(adapters: LocalAdapterService, name: string, path: string): Promise<void> {
  try {
    const files = await readAdapterFolder(path);
    const current = await adapters.get(name);
    if (current?.hash !== (await hashAdapter(adapterFiles(files), createPacer())))
      await adapters.register(name, files);
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    throw new GatewayError(error.code, `--adapter ${name}=${path}: ${error.message}`, { cause: error });
  }
}

function baseDescription({ manifest }: Artifact): Parameters<typeof createApp>[0]['base'] {
  const { name, baseHash, source, weights, architecture, createdAt } = manifest;
  const { contextLength } = architecture;
  return {
    name,
    baseHash,
    source,
    weights,
    contextLength,
    createdAt: Math.floor(Date.parse(createdAt) / 1000),
  };
}

function archiveLimits(config: Config): ArchiveLimits {
  const bytes = config.maxUploadMb * MB;
  return { maxFiles: MAX_ADAPTER_FILES, maxTotalBytes: bytes, maxFileBytes: bytes };
}

function runtimeLora({ allowRuntimeLora, runtimeLoraDir }: Config): { folder: string } | null {
  return allowRuntimeLora && runtimeLoraDir !== null ? { folder: runtimeLoraDir } : null;
}

/** One line a message: `level message {fields}`. */
function createLogger(least: Config['logLevel'], ui: Ui): Logger {
  const levels = ['error', 'warn', 'info', 'debug'];
  const log =
    (level: string) =>
    (message: string, fields?: Readonly<Record<string, unknown>>): void => {
      if (levels.indexOf(level) > levels.indexOf(least)) return;
      ui.log(`${level} ${message}${fields === undefined ? '' : ` ${JSON.stringify(fields)}`}`);
    };
  return { info: log('info'), warn: log('warn'), error: log('error') };
}
