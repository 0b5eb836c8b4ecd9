// The tables of the benchmark: everything once a round, servers and raw graph in turn, because machines are noisy.
// Each row is logged as soon as it is measured: a run that is broken off leaves what it has.
import type { LoraAdapter } from '../../adapters/types.js';
import { readPeft } from '../../adapters/peft.js';
import { assert } from '../../errors.js';
import type { OpenModel } from '../serve.js';
import type { LoadClient, LoadRun } from './load-client.js';
import { httpRate, rawRate, WORKS, workName, type RateSettings, type Work } from './rates.js';
import { randomAdapter } from './random-adapter.js';
import { number, type RateRow } from './report.js';
import { runScenario, summarize, type LoadSummary } from './scenario-run.js';
import { median } from './statistics.js';
import type { Target } from './target.js';
import { NUM_ADAPTERS, scenarios } from './workload.js';

export interface Client {
  readonly target: Target;
  readonly client: LoadClient;
}

export interface MeasureOptions {
  readonly model: OpenModel;
  /** The server's own first. */
  readonly clients: readonly Client[];
  readonly rounds: number;
  readonly quick: boolean;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

/** Files of the adapters with which everything is measured, in the order of their numbers. */
export function benchAdapters(model: OpenModel): readonly ReadonlyMap<string, Uint8Array<ArrayBuffer>>[] {
  return Array.from({ length: NUM_ADAPTERS }, (_, i) => randomAdapter(model.base.architecture, i + 1));
}

export async function loadLoras(
  model: OpenModel,
  files: readonly ReadonlyMap<string, Uint8Array>[],
): Promise<readonly LoraAdapter[]> {
  const loras: LoraAdapter[] = [];
  for (const one of files) {
    const { content } = await readPeft(one, model.base);
    assert(content.kind === 'lora', 'random adapters are LoRAs');
    loras.push(content);
  }
  return loras;
}

export async function measureRates(
  options: MeasureOptions,
  loras: readonly LoraAdapter[],
): Promise<readonly RateRow[]> {
  const rows: RateRow[] = [];
  for (const [index, work] of WORKS.entries()) {
    const raw: number[] = [];
    const http = new Map<string, number[]>(options.clients.map(({ target }) => [target.name, []]));
    for (let round = 0; round < options.rounds; round++) {
      options.signal.throwIfAborted();
      options.log(`round ${round + 1} of ${options.rounds}: ${workName(work)}`);
      const settings = rateSettings(options, round * WORKS.length + index);
      raw.push(await rawRate(options.model.runner, work, loras, settings));
      for (const client of options.clients) {
        const rate = await rateOf(client, work, settings, options);
        if (rate !== null) http.get(client.target.name)!.push(rate);
      }
    }
    const medians = [...http].map(([name, rates]) => [name, median(rates)] as const);
    const row = { ...work, raw: median(raw), http: Object.fromEntries(medians) };
    rows.push(row);
    const rates = [['raw graph', row.raw] as const, ...medians];
    options.log(
      `${workName(work)}: ${rates.map(([name, rate]) => `${name} ${number(rate, 0)}`).join(', ')} tok/s`,
    );
  }
  return rows;
}

export async function measureLoad(options: MeasureOptions): Promise<readonly LoadSummary[]> {
  const summaries: LoadSummary[] = [];
  for (const scenario of scenarios(options.quick)) {
    const runs = options.clients.map((): LoadRun[] => []);
    for (let round = 0; round < options.rounds; round++) {
      for (const [index, { target, client }] of options.clients.entries()) {
        options.signal.throwIfAborted();
        options.log(`round ${round + 1} of ${options.rounds}: chat, ${scenario.name}, ${target.name}`);
        runs[index]!.push(await runScenario(client, target, scenario, round));
      }
    }
    const done = options.clients.map(({ target }, index) => summarize(target, scenario, runs[index]!));
    summaries.push(...done);
    for (const { target, tokensPerS, latencyMs } of done)
      options.log(
        `chat, ${scenario.name}: ${target} ${number(tokensPerS, 0)} tok/s, p95 ${number(latencyMs.p95, 0)} ms`,
      );
  }
  return summaries;
}

/** A peer may not know token ids as prompts, or have no such adapter: then the figure is missing, and why is logged. */
async function rateOf(
  { target, client }: Client,
  work: Work,
  settings: RateSettings,
  { clients, log, signal }: MeasureOptions,
): Promise<number | null> {
  try {
    return await httpRate(client, target, work, settings);
  } catch (error) {
    if (target === clients[0]?.target || signal.aborted) throw error;
    log(`no figure: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

function rateSettings({ model, quick }: MeasureOptions, seed: number): RateSettings {
  return {
    seed,
    vocabSize: model.base.architecture.vocabSize,
    decodeTokens: quick ? 40 : 96,
    prefills: quick ? 1 : 4,
  };
}
