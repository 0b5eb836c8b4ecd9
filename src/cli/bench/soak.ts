// The soak: adapters of new content that are uploaded, used and removed without end, while the server's memory, slots, pins and
// native handles are watched through /metrics. Says whether memory is flat and whether anything is left behind.
import { setTimeout as delay } from 'node:timers/promises';
import type { Architecture } from '../../model/architecture.js';
import { bearer, ServerClient } from '../server-client.js';
import { LoadClient } from './load-client.js';
import { readMetrics, sumOf, type Series } from './metrics-text.js';
import { asBlobs, changedAdapter, randomAdapter } from './random-adapter.js';
import { circumstanceLines, number, table, type Circumstances } from './report.js';
import { chatBody } from './scenario-run.js';
import { slope } from './statistics.js';
import { modelTarget } from './target.js';

export interface SoakOptions {
  readonly url: string;
  /** Null where the server asks for none. */
  readonly apiKey: string | null;
  readonly arch: Architecture;
  readonly minutes: number;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

export interface SoakSample {
  /** Since the start. */
  readonly seconds: number;
  readonly rssMb: number;
  readonly running: number;
  readonly waiting: number;
  readonly pinned: number;
  readonly loaded: number;
  readonly nativeHandles: number;
}

export interface SoakResult {
  readonly minutes: number;
  readonly adapters: number;
  readonly requests: number;
  readonly samples: readonly SoakSample[];
  /** After the last request, with every adapter removed. */
  readonly idle: SoakSample;
  /** The straight line's growth from the end of the warm-up to the end, as a share of the mean. */
  readonly rssGrowth: number;
  readonly handleGrowth: number;
  readonly rssMbPerMinute: number;
  /** Empty where memory was flat and nothing was left behind. */
  readonly problems: readonly string[];
}

const CONCURRENCY = 8;
const SAMPLE_MS = 10_000;
const REQUESTS_PER_ADAPTER = 2;
const NEW_TOKENS = 32;
/** Caches fill in this share of the time. */
const WARM_UP = 0.25;
const FLAT = 0.05;

export async function soak(options: SoakOptions): Promise<SoakResult> {
  const { url, apiKey, signal, log } = options;
  const startMs = performance.now();
  const sample = async (): Promise<SoakSample> =>
    readSample(await readMetrics(url, apiKey), (performance.now() - startMs) / 1000);
  const endMs = startMs + options.minutes * 60_000;
  const churning = churn(options, () => performance.now() < endMs);
  const samples: SoakSample[] = [];
  const watching = (async () => {
    while (performance.now() < endMs) {
      await delay(Math.max(0, Math.min(SAMPLE_MS, endMs - performance.now())), undefined, { signal });
      const taken = await sample();
      samples.push(taken);
      log(`${taken.seconds.toFixed(0)} s: ${taken.rssMb.toFixed(0)} MB, ${taken.running} running`);
    }
  })();
  const [counts] = await Promise.all([churning, watching]);
  const leftNames = (await new ServerClient(url, apiKey).listAdapters()).filter(({ name }) =>
    name.startsWith('soak-'),
  );
  return judge(options.minutes, counts, samples, await sample(), leftNames.length);
}

export function judge(
  minutes: number,
  counts: { readonly adapters: number; readonly requests: number; readonly errors: readonly string[] },
  samples: readonly SoakSample[],
  idle: SoakSample,
  numListed: number,
): SoakResult {
  const settled = samples.slice(Math.floor(samples.length * WARM_UP));
  const rssGrowth = growth(settled, ({ rssMb }) => rssMb);
  const handleGrowth = growth(settled, ({ nativeHandles }) => nativeHandles);
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const left: readonly (readonly [string, number])[] = [
    ['requests running', idle.running],
    ['requests waiting', idle.waiting],
    ['adapters pinned', idle.pinned],
    ['adapters loaded', idle.loaded],
    ['adapters listed', numListed],
  ];
  return {
    minutes,
    adapters: counts.adapters,
    requests: counts.requests,
    samples,
    idle,
    rssGrowth,
    handleGrowth,
    rssMbPerMinute: 60 * slope(settled.map(({ seconds, rssMb }) => [seconds, rssMb])),
    problems: [
      ...(rssGrowth > FLAT ? [`memory grew by ${percent(rssGrowth)} after the warm-up`] : []),
      ...(handleGrowth > FLAT ? [`native handles grew by ${percent(handleGrowth)} after the warm-up`] : []),
      ...left.filter(([, count]) => count > 0).map(([what, count]) => `${what} at the end: ${count}`),
      ...(counts.errors.length > 0
        ? [`${counts.errors.length} failures, the first: ${counts.errors[0]}`]
        : []),
    ],
  };
}

export function soakMarkdown(circumstance: Circumstances, result: SoakResult): string {
  const { samples, idle } = result;
  const row = (name: string, one: SoakSample): string[] => [
    name,
    number(one.rssMb, 0),
    String(one.running),
    String(one.waiting),
    String(one.pinned),
    String(one.loaded),
    String(one.nativeHandles),
  ];
  const shown = samples.filter((_, i) => i % Math.ceil(samples.length / 12) === 0);
  return [
    `## Soak of ${result.minutes} minutes\n`,
    circumstanceLines(circumstance),
    `- ${result.adapters} adapters uploaded, used and removed, ${result.requests} requests, ${CONCURRENCY} at once\n`,
    table(
      ['time', 'resident MB', 'running', 'waiting', 'pinned', 'loaded', 'native handles'],
      [...shown.map((one) => row(`${one.seconds.toFixed(0)} s`, one)), row('idle at the end', idle)],
    ),
    '',
    `Memory after the warm-up: ${result.rssMbPerMinute.toFixed(2)} MB a minute, ${(100 * result.rssGrowth).toFixed(1)} % in all.`,
    result.problems.length === 0
      ? 'Memory is flat and nothing is left behind.'
      : `Not in order: ${result.problems.join('; ')}.`,
  ].join('\n');
}

/** Uploads, uses and removes adapters, each worker with one name of its own, while `goOn` says so. */
async function churn(
  { url, apiKey, arch, signal }: SoakOptions,
  goOn: () => boolean,
): Promise<{ adapters: number; requests: number; errors: string[] }> {
  const admin = new ServerClient(url, apiKey);
  const client = new LoadClient(url, signal, apiKey === null ? {} : bearer(apiKey));
  const files = randomAdapter(arch, 1);
  const counts = { adapters: 0, requests: 0, errors: [] as string[] };
  const worker = async (index: number): Promise<void> => {
    const name = `soak-${index}`;
    const target = modelTarget('', url, name, () => name);
    while (goOn() && !signal.aborted) {
      const version = counts.adapters++;
      try {
        await admin.addAdapter(name, asBlobs(changedAdapter(files, version)));
        for (let i = 0; i < REQUESTS_PER_ADAPTER; i++) {
          await client.ask('/v1/chat/completions', chatBody(target, 0, version, i, NEW_TOKENS));
          counts.requests++;
        }
        await admin.removeAdapter(name);
      } catch (error) {
        counts.errors.push(String(error));
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, (_, index) => worker(index)));
  signal.throwIfAborted();
  return counts;
}

export function readSample(series: readonly Series[], seconds: number): SoakSample {
  return {
    seconds,
    rssMb: sumOf(series, 'process_resident_memory_bytes') / 1e6,
    running: sumOf(series, 'vllm:num_requests_running'),
    waiting: sumOf(series, 'vllm:num_requests_waiting'),
    pinned: sumOf(series, 'vllm:lora_adapter_loaded', { pinned: 'true' }),
    loaded: sumOf(series, 'vllm:lora_adapter_loaded'),
    nativeHandles: sumOf(series, 'runtime_native_handles'),
  };
}

function growth(samples: readonly SoakSample[], of: (sample: SoakSample) => number): number {
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined) return 0;
  const mean = samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  if (mean === 0) return 0;
  const perSecond = slope(samples.map((sample) => [sample.seconds, of(sample)]));
  return (perSecond * (last.seconds - first.seconds)) / mean;
}
