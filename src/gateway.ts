// The server over an open engine: adapters, training, routes, and the port they are on.
import { Gauge, Registry } from 'prom-client';
import { adapterFiles, hashAdapter } from './adapters/adapter-files.js';
import { readAdapterFolder } from './adapters/adapter-folder.js';
import { adapterBase } from './adapters/base.js';
import { createPacer } from './adapters/pacer.js';
import { createAdapterService, type LocalAdapterService } from './adapters/service.js';
import type { Config } from './config.js';
import type { OpenEngine } from './engine/open-engine.js';
import { GatewayError } from './errors.js';
import type { ArchiveLimits } from './formats/archive.js';
import type { Artifact } from './model/artifact-reader.js';
import { createApp, type Listener, type Logger, sampleAdapter, serve } from './server/index.js';
import type { TextTokenizer } from './tokenizer/types.js';
import { createTrainingService } from './train/jobs/service.js';
import type { TrainingDatabase } from './train/jobs/tables.js';
import type { TrainingService } from './train/jobs/types.js';
import { workerStarter } from './train/jobs/worker-process.js';

export interface Ui {
  progress(label: string, done: number, total: number): void;
  log(line: string): void;
}

export interface GatewayParts {
  readonly artifact: Artifact;
  readonly config: Config;
  readonly engine: OpenEngine;
  readonly tokenizer: TextTokenizer;
  readonly ui: Ui;
  /** The URL of a module that exports runTraining, in place of the trainer. */
  readonly runModule: string | null;
}

export interface Gateway {
  readonly url: string;
  close(): Promise<void>;
}

const MB = 2 ** 20;
const MAX_ADAPTER_FILES = 64;

/** Listens on return. Owns the engine from then on. */
export async function startGateway(parts: GatewayParts): Promise<Gateway> {
  const { artifact, config, engine, tokenizer, ui } = parts;
  const logger = createLogger(config.logLevel, ui);
  const adapters = await createAdapterService({
    dataDir: config.dataDir,
    base: adapterBase(artifact, tokenizer.chatTemplateHash),
    cacheBytes: config.adapterCacheMb * MB,
    runPrompt: (embeddings) => engine.engine.computePrefix(embeddings),
  });
  for (const { name, path } of config.adapter) await registerFolder(adapters, name, path);
  const training = await openTraining(parts, adapters, logger);
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

function openTraining(
  { artifact, config, engine: { engine }, tokenizer, runModule }: GatewayParts,
  adapters: LocalAdapterService,
  logger: Logger,
): Promise<TrainingService> {
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
