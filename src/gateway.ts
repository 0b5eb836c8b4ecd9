// The server over an open engine: adapters, tenants, training, routes, and the port they are on.
import { Gauge, Registry } from 'prom-client';
import { adapterFiles, hashAdapter } from './adapters/adapter-files.js';
import { readAdapterFolder } from './adapters/adapter-folder.js';
import { adapterBase } from './adapters/base.js';
import { isCurrentVersion } from './adapters/merging/current-version.js';
import { probePrompts } from './adapters/merging/probe-prompts.js';
import type { ProbeText } from './adapters/merging/probe-texts.js';
import { createPacer } from './adapters/pacer.js';
import { createAdapterService, type LocalAdapterService } from './adapters/service.js';
import type { Config } from './config.js';
import { openMerging, type OpenMerging } from './engine/merging/open-merging.js';
import { startMergeProcess } from './engine/merging/merge-process.js';
import type { OpenEngine } from './engine/open-engine.js';
import { chooseKernels } from './runtime/native-kernels.js';
import { GatewayError } from './errors.js';
import type { ArchiveLimits } from './formats/archive.js';
import type { Artifact } from './model/artifact-reader.js';
import {
  addingInTurn,
  createApp,
  type Listener,
  type Logger,
  registeringInTurn,
  sampleAdapter,
  serve,
} from './server/index.js';
import type { CheckQuota } from './tenants/check-quota.js';
import { createQuotaCheck, type Holder } from './tenants/quotas.js';
import { openTenants } from './tenants/service.js';
import type { TenantDatabase } from './tenants/tables.js';
import { createTurns } from './tenants/turns.js';
import { DEFAULT_TENANT } from './tenants/types.js';
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
const DAY_MS = 24 * 60 * 60_000;
const MAX_ADAPTER_FILES = 64;
/** Rows of the steps by which merged weights are timed. */
const MERGE_ROW_COUNTS: readonly number[] = [1, 8, 16];

/** Listens on return. Owns the engine from then on. */
export async function startGateway(parts: GatewayParts): Promise<Gateway> {
  const { artifact, config, engine, tokenizer, ui } = parts;
  const logger = createLogger(config.logLevel, ui);
  // Adapters and jobs ask for quotas, which ask them in turn what is there.
  const holders: Holder[] = [];
  const checkQuota = createQuotaCheck((tenant) => tenants.access.tenant(tenant)?.quotas ?? null, holders);
  const inTurn = createTurns();
  const stored = await createAdapterService({
    dataDir: config.dataDir,
    base: adapterBase(artifact, tokenizer.chatTemplateHash),
    cacheBytes: config.adapterCacheMb * MB,
    keptVersions: config.adapterVersions,
    checkQuota,
    runPrompt: (embeddings) => engine.engine.computePrefix(embeddings),
  });
  const adapters = registeringInTurn(stored, inTurn);
  holders.push(async (tenant) => {
    const { numAdapters, sizeBytes } = await adapters.holdings(tenant);
    return { adapters: numAdapters, bytes: sizeBytes };
  });
  const tenants = await openTenants({
    // The schema of its own tables, on the same connection.
    database: adapters.database as unknown as TenantDatabase,
    clock: Date.now,
    onUsageFailure: (error) => logger.error('the usage of tenants was not written', { error }),
  });
  if (await tenants.access.isOpen())
    logger.warn(
      `no API key exists: listening on ${config.host} only, and whoever is on this machine may do everything; \`graft keys create\` makes one`,
    );
  for (const { name, path } of config.adapter) await registerFolder(adapters, name, path);
  const training = addingInTurn(await openTraining(parts, adapters, logger, checkQuota), inTurn);
  holders.push(async (tenant) => {
    const { numJobs, sizeBytes } = await training.holdings(tenant);
    return { jobs: numJobs, bytes: sizeBytes };
  });
  const merging = config.merge ? openConfiguredMerging(parts, adapters, logger) : null;
  const app = createApp({
    engine: engine.engine,
    merging: merging?.controller ?? null,
    tokenizer,
    adapters,
    training,
    tenants,
    base: baseDescription(artifact, config),
    readArchive: async (bytes, filename) => {
      const { readArchive } = await import('./formats/archive.js');
      return readArchive(bytes, filename, archiveLimits(config));
    },
    readAdapterFolder,
    metricsRegistry: createMetricsRegistry(engine),
    clock: Date.now,
    random: Math.random,
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
      await merging?.close();
      await engine.dispose();
      await tenants.close();
      await adapters.dispose();
    },
  };
}

function openConfiguredMerging(
  { artifact, config, engine, tokenizer }: GatewayParts,
  { database }: LocalAdapterService,
  logger: Logger,
): OpenMerging {
  const { architecture, baseHash } = artifact.manifest;
  return openMerging(engine, {
    artifactFolder: artifact.folder,
    settings: {
      idleMs: config.mergeIdleSeconds * 1000,
      bounds: { maxMeanKl: config.mergeMaxKl / 1000, minTop1: config.mergeMinTop1 / 100 },
      minFreeBytes: config.mergeFreeMb * MB,
    },
    order: () => ({
      artifactFolder: artifact.folder,
      architecture,
      ...probePrompts((text) => encodeProbe(tokenizer, text), engine.engine.contextLength - 1),
      threads: config.threads,
      kernels: chooseKernels(config.kernels),
      rowCounts: MERGE_ROW_COUNTS.filter((rows) => rows <= config.slots),
    }),
    startMerge: startMergeProcess,
    isRegistered: (hash) => isCurrentVersion(database, baseHash, hash),
    freeBytes: () => process.availableMemory(),
    clock: Date.now,
    log: (message, fields) => logger.info(message, fields),
  });
}

/** As a chat where the base has a template for one that takes it. */
function encodeProbe(tokenizer: TextTokenizer, { question, answer }: ProbeText): readonly number[] {
  try {
    return tokenizer.encodeChat([
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ]);
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    return tokenizer.encode(`${question}\n${answer}`);
  }
}

function openTraining(
  { artifact, config, engine: { engine }, tokenizer, runModule }: GatewayParts,
  adapters: LocalAdapterService,
  logger: Logger,
  checkQuota: CheckQuota,
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
    checkQuota,
    threads: config.trainThreads,
    keepFoldersMs: config.trainKeepDays * DAY_MS,
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

/** The operator's own: of the default tenant, and for all to use. */
async function registerFolder(adapters: LocalAdapterService, name: string, path: string): Promise<void> {
  try {
    const files = await readAdapterFolder(path);
    const own = adapters.of(DEFAULT_TENANT);
    const current = await own.get(name);
    if (current?.hash !== (await hashAdapter(adapterFiles(files), createPacer())))
      await own.register(name, files);
    await adapters.publish(name);
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    throw new GatewayError(error.code, `--adapter ${name}=${path}: ${error.message}`, { cause: error });
  }
}

function baseDescription({ manifest }: Artifact, config: Config): Parameters<typeof createApp>[0]['base'] {
  const { name, baseHash, source, weights, architecture, createdAt } = manifest;
  const { contextLength } = architecture;
  return {
    name,
    baseHash,
    source,
    weights,
    contextLength,
    ropeScaling: config.ropeScaling === null ? null : architecture.ropeScaling,
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
