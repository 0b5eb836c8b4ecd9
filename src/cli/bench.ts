// `bench`: measures the raw graph and the server over it on this machine, in one run. The parts are in bench/; this is their order.
import { setMaxListeners } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Config, ConfigOf } from '../config.js';
import { GatewayError } from '../errors.js';
import { measureColdAdapter } from './bench/cold-adapter.js';
import { LoadClient } from './bench/load-client.js';
import { measureMerging, mergingMarkdown } from './bench/merging.js';
import { currentCommit, describeMachine } from './bench/machine.js';
import { benchAdapters, loadLoras, measureLoad, measureRates, type Client } from './bench/measurement.js';
import { asBlobs } from './bench/random-adapter.js';
import { markdown, ratiosOf, type BenchReport, type Circumstances } from './bench/report.js';
import { startServerProcess, type ServerProcess } from './bench/server-process.js';
import { soakMarkdown, soak } from './bench/soak.js';
import { median } from './bench/statistics.js';
import { tenantMarkdown } from './bench/tenant-report.js';
import { withFreshState } from './bench/tenant-state.js';
import { measureTenants } from './bench/tenants.js';
import { loraTarget, modelTarget, parsePeer, type Target } from './bench/target.js';
import { NUM_ADAPTERS } from './bench/workload.js';
import { ProgressUi } from './progress.js';
import { INTERRUPTED } from './interrupts.js';
import { chooseKernels } from '../runtime/native-kernels.js';
import type { Main, OpenModel } from './serve.js';
import { bearer, ServerClient } from './server-client.js';
import type { Terminal } from './terminal.js';

export type BenchConfig = ConfigOf<'bench'>;

/** What every part of a run has at hand. */
interface Run {
  readonly options: BenchConfig;
  readonly config: Config;
  readonly terminal: Terminal;
  readonly ui: ProgressUi;
  readonly signal: AbortSignal;
}

const OWN_NAME = 'graft';

/** Prints markdown, and writes JSON with `out`. 1 where requests failed, a soak left something behind, or tenants were not served alike. */
export async function bench(
  options: BenchConfig,
  config: Config,
  terminal: Terminal,
  main: Main,
): Promise<number> {
  if (options.peer !== null) parsePeer(options.peer);
  const interrupt = new AbortController();
  setMaxListeners(0, interrupt.signal); // every request under way listens
  const stop = terminal.onInterrupt(() => interrupt.abort());
  const ui = new ProgressUi(terminal.stderr);
  const run: Run = { options, config, terminal, ui, signal: interrupt.signal };
  try {
    const where = await circumstances(config);
    const folder = await main.prepareModel(config, ui);
    const model = await main.openModel(folder, {
      ...config,
      prefixCache: false,
    });
    try {
      if (options.merging) return await mergingRun(run, model, folder, where);
      if (options.tenants) return await tenantRun(run, model, where);
      return options.soak === null ? await tables(run, model, where) : await soakRun(run, model, where);
    } finally {
      await model.dispose();
    }
  } catch (error) {
    if (interrupt.signal.aborted) return INTERRUPTED;
    throw error;
  } finally {
    stop();
  }
}

async function tables(run: Run, model: OpenModel, where: Omit<Circumstances, 'model'>): Promise<number> {
  const { options, signal, ui } = run;
  const quick = options.quick;
  const { server, start } = await startRepeatedly(run, quick ? 1 : 3);
  const admin = new ServerClient(server.url, options.apiKey);
  try {
    const clients = await clientsOf(run, server, model);
    const files = benchAdapters(model);
    for (const [i, one] of files.entries()) await admin.addAdapter(adapterName(i), asBlobs(one));
    const rounds = quick ? 1 : options.rounds;
    const measure = { model, clients, rounds, quick, signal, log: (line: string) => ui.log(line) };
    const report: BenchReport = {
      ...where,
      model: `${model.name}, ${run.config.weights}`,
      rounds,
      targets: clients.map(({ target }) => target.name),
      rates: await measureRates(measure, await loadLoras(model, files)),
      load: await measureLoad(measure),
      coldAdapter: await measureColdAdapter(
        clients[0]!.client,
        admin,
        model.base.architecture,
        quick ? 1 : 5,
      ),
      start,
    };
    await publish(run, markdown(report), { ...report, ratios: ratiosOf(report) });
    const failed = report.load.flatMap(({ target, errors }) => (target === OWN_NAME ? errors : []));
    if (failed.length > 0) ui.log(`${failed.length} requests failed, the first with ${failed[0]}`);
    return failed.length > 0 ? 1 : 0;
  } finally {
    try {
      await removeAdapters(admin);
    } finally {
      await server.stop();
    }
  }
}

async function soakRun(run: Run, model: OpenModel, where: Omit<Circumstances, 'model'>): Promise<number> {
  const { signal, ui, options, config } = run;
  const server = await startServerProcess(config, run.terminal.env, options.apiKey);
  try {
    const result = await soak({
      url: server.url,
      apiKey: options.apiKey,
      arch: model.base.architecture,
      minutes: options.soak!,
      signal,
      log: (line) => ui.log(line),
    });
    const circumstance = { ...where, model: `${model.name}, ${config.weights}` };
    await publish(run, soakMarkdown(circumstance, result), { ...circumstance, soak: result });
    return result.problems.length > 0 ? 1 : 0;
  } finally {
    await server.stop();
  }
}

async function mergingRun(
  run: Run,
  model: OpenModel,
  artifactFolder: string,
  where: Omit<Circumstances, 'model'>,
): Promise<number> {
  const { signal, ui, config } = run;
  const [adapter] = await loadLoras(model, benchAdapters(model).slice(0, 1));
  const { threads, slots } = config;
  const kernels = chooseKernels(config.kernels);
  const log = (line: string): void => ui.log(line);
  const merging = await measureMerging({
    model,
    artifactFolder,
    adapter: adapter!,
    threads,
    kernels,
    slots,
    signal,
    log,
  });
  const circumstance = { ...where, model: `${model.name}, ${config.weights}` };
  await publish(run, mergingMarkdown(merging), { ...circumstance, merging });
  return 0;
}

async function tenantRun(run: Run, model: OpenModel, where: Omit<Circumstances, 'model'>): Promise<number> {
  const { signal, ui, options, config, terminal } = run;
  const result = await withFreshState(config.dataDir, async (dataDir) => {
    const server = await startServerProcess({ ...config, dataDir }, terminal.env);
    try {
      return await measureTenants({
        url: server.url,
        arch: model.base.architecture,
        quick: options.quick,
        signal,
        log: (line) => ui.log(line),
      });
    } finally {
      await server.stop();
    }
  });
  const circumstance = { ...where, model: `${model.name}, ${config.weights}` };
  await publish(run, tenantMarkdown(circumstance, result), { ...circumstance, tenants: result });
  return result.problems.length > 0 ? 1 : 0;
}

/** Starts the server `times` times over, and leaves the last one running. */
async function startRepeatedly(
  { options, config, terminal, ui, signal }: Run,
  times: number,
): Promise<{ server: ServerProcess; start: BenchReport['start'] }> {
  const servers: ServerProcess[] = [];
  for (let i = 0; i < times; i++) {
    await servers.at(-1)?.stop();
    signal.throwIfAborted();
    ui.log(`start ${i + 1} of ${times}`);
    servers.push(await startServerProcess(config, terminal.env, options.apiKey));
  }
  const rssBytes = median(servers.map((server) => server.rssBytes));
  return {
    server: servers.at(-1)!,
    start: {
      readyMs: median(servers.map(({ readyMs }) => readyMs)),
      rssMb: rssBytes === null ? null : rssBytes / 1e6,
    },
  };
}

async function clientsOf(
  { options, signal }: Run,
  { url }: ServerProcess,
  model: OpenModel,
): Promise<readonly Client[]> {
  const own = modelTarget(OWN_NAME, url, model.name, adapterName);
  const targets = [own, ...(options.peer === null ? [] : [await peerTarget(options.peer, options.peerMode)])];
  // The key is this server's: a peer gets none.
  const headers = options.apiKey === null ? {} : bearer(options.apiKey);
  return targets.map((target) => ({
    target,
    client: new LoadClient(target.url, signal, target === own ? headers : {}),
  }));
}

async function peerTarget(peer: string, mode: BenchConfig['peerMode']): Promise<Target> {
  const { name, url } = parsePeer(peer);
  if (mode === 'lora') return loraTarget(name, url);
  const [base, ...adapters] = await new ServerClient(url).listModels();
  if (base === undefined || adapters.length < NUM_ADAPTERS)
    throw new GatewayError(
      'invalid_config',
      `Expected ${url}/v1/models to list a base and then ${NUM_ADAPTERS} adapters, got ${adapters.length} after the first`,
      { param: 'peer' },
    );
  return modelTarget(name, url, base, (index) => adapters[index]!);
}

/** The names are the same in every run: one that was broken off leaves nothing that the next does not remove. */
function adapterName(index: number): string {
  return `benchmark-${index}`;
}

async function removeAdapters(admin: ServerClient): Promise<void> {
  const known = await admin.listAdapters();
  for (const { name } of known) if (name.startsWith('benchmark-')) await admin.removeAdapter(name);
}

async function circumstances(config: Config): Promise<Omit<Circumstances, 'model'>> {
  const words = process.argv.slice(2).join(' ');
  return {
    machine: await describeMachine(),
    command: `graft ${words}`,
    commit: await currentCommit(),
    date: new Date().toISOString(),
    threads: config.threads,
  };
}

async function publish({ options, terminal }: Run, text: string, content: object): Promise<void> {
  terminal.stdout.write(`${text}\n`);
  if (options.benchOut === null) return;
  await mkdir(dirname(options.benchOut), { recursive: true });
  await writeFile(options.benchOut, `${JSON.stringify(content, null, 2)}\n`);
}
