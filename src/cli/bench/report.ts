// The benchmark's result as a value (what the JSON file holds), the ratios drawn from it, and its markdown.
import type { ColdAdapter } from './cold-adapter.js';
import type { Machine } from './machine.js';
import { workName, type Work } from './rates.js';
import type { LoadSummary } from './scenario-run.js';
import { ratio } from './statistics.js';

/** One kind of work, the median of the rounds; null where it could not be measured. */
export interface RateRow extends Work {
  readonly raw: number | null;
  /** Target's name -> tokens a second through HTTP. */
  readonly http: Readonly<Record<string, number | null>>;
}

export interface BenchReport extends Circumstances {
  readonly rounds: number;
  /** The server's own name first, then the peer's. */
  readonly targets: readonly string[];
  readonly rates: readonly RateRow[];
  readonly load: readonly LoadSummary[];
  readonly coldAdapter: ColdAdapter;
  readonly start: { readonly readyMs: number | null; readonly rssMb: number | null };
}

export interface NamedRatio {
  readonly name: string;
  readonly value: number | null;
}

export function ratiosOf(report: BenchReport): readonly NamedRatio[] {
  const [own, peer] = report.targets;
  const overRaw = report.rates
    .filter(({ adapters }) => adapters !== 1)
    .map((row) => ({
      name: `${workName(row)}: HTTP / raw graph`,
      value: ratio(row.http[own!] ?? null, row.raw),
    }));
  const named = (work: Work, adapters: Work['adapters']): RateRow | undefined =>
    report.rates.find((row) => row.kind === work.kind && row.rows === work.rows && row.adapters === adapters);
  const overBase = report.rates
    .filter(({ adapters }) => adapters !== 0)
    .flatMap((row) => {
      const base = named(row, 0);
      const name = `${workName(row)}: adapters / base`;
      return [
        { name: `${name}, raw graph`, value: ratio(row.raw, base?.raw ?? null) },
        { name: `${name}, HTTP`, value: ratio(row.http[own!] ?? null, base?.http[own!] ?? null) },
      ];
    });
  return [...overRaw, ...overBase, ...loadRatios(report.load, own!), ...peerRatios(report, own!, peer)];
}

export function markdown(report: BenchReport): string {
  const { coldAdapter: cold, start } = report;
  return [
    heading(report),
    section(
      'Tokens a second, one kind of work at a time',
      ['work', 'raw graph', ...report.targets],
      report.rates.map((row) => [
        workName(row),
        number(row.raw, 0),
        ...report.targets.map((name) => number(row.http[name] ?? null, 0)),
      ]),
    ),
    section(
      'Chat requests over HTTP',
      ['load', 'server', 'tok/s', 'latency p50', 'p95', 'first token p50', 'p95', 'failed'],
      report.load.map(loadCells),
    ),
    section(
      'Ratios',
      ['ratio', 'value'],
      ratiosOf(report).map(({ name, value }) => [name, number(value, 2)]),
    ),
    section(
      'Starting',
      ['what', 'value'],
      [
        ['first token of an adapter not loaded yet', milliseconds(cold.coldMs)],
        ['first token of a loaded adapter', milliseconds(cold.warmMs)],
        ['process start to listening, model converted before', milliseconds(start.readyMs)],
        ['resident memory then', start.rssMb === null ? '-' : `${number(start.rssMb, 0)} MB`],
      ],
    ),
  ].join('\n');
}

/** A markdown table. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n');
}

export function number(value: number | null, digits: number): string {
  return value === null ? '-' : value.toFixed(digits);
}

/** What every figure needs beside it. */
export interface Circumstances {
  readonly machine: Machine;
  /** Threads that compute. */
  readonly threads: number;
  readonly command: string;
  readonly commit: string | null;
  /** ISO 8601. */
  readonly date: string;
  readonly model: string;
}

export function circumstanceLines(circumstances: Circumstances): string {
  const { machine, threads, command, commit, date, model } = circumstances;
  const sets = machine.instructionSets?.join(', ') ?? 'instruction sets unknown';
  return [
    `- machine: ${machine.cpu}, ${machine.cores} cores (${sets}), ${machine.memoryGb} GB, ${machine.platform}, Node ${machine.node}`,
    `- threads: ${threads}; load average before the run: ${machine.loadBefore.toFixed(2)}`,
    `- model: ${model}`,
    `- command: \`${command}\``,
    `- commit: ${commit ?? 'unknown'}`,
    `- date: ${date}`,
  ].join('\n');
}

function heading(report: BenchReport): string {
  const order = report.targets.length > 1 ? `, servers in turn: ${report.targets.join(', ')}` : '';
  return `## Benchmark\n\n${circumstanceLines(report)}\n- rounds: ${report.rounds}${order}\n`;
}

function section(title: string, header: readonly string[], rows: readonly (readonly string[])[]): string {
  return `### ${title}\n\n${table(header, rows)}\n`;
}

function loadCells(row: LoadSummary): string[] {
  return [
    row.scenario,
    row.target,
    number(row.tokensPerS, 0),
    milliseconds(row.latencyMs.p50),
    milliseconds(row.latencyMs.p95),
    milliseconds(row.firstTokenMs.p50),
    milliseconds(row.firstTokenMs.p95),
    `${row.errors.length} of ${row.requests}`,
  ];
}

/** Adapters against the base at the same concurrency. */
function loadRatios(load: readonly LoadSummary[], own: string): NamedRatio[] {
  const mine = load.filter(({ target }) => target === own);
  return mine
    .filter(({ pick }) => pick !== 'base')
    .map((row) => {
      const base = mine.find(({ pick, concurrency }) => pick === 'base' && concurrency === row.concurrency);
      return {
        name: `chat, ${row.scenario}: adapters / base`,
        value: ratio(row.tokensPerS, base?.tokensPerS ?? null),
      };
    });
}

function peerRatios(report: BenchReport, own: string, peer: string | undefined): NamedRatio[] {
  if (peer === undefined) return [];
  const over = `${own} / ${peer}`;
  const rates = report.rates.map((row) => ({
    name: `${workName(row)}: ${over}`,
    value: ratio(row.http[own] ?? null, row.http[peer] ?? null),
  }));
  const load = report.load
    .filter(({ target }) => target === own)
    .flatMap((row) => {
      const other = report.load.find(({ target, scenario }) => target === peer && scenario === row.scenario);
      return [
        {
          name: `chat, ${row.scenario}: ${over}, tok/s`,
          value: ratio(row.tokensPerS, other?.tokensPerS ?? null),
        },
        {
          name: `chat, ${row.scenario}: ${over}, p95 latency`,
          value: ratio(row.latencyMs.p95, other?.latencyMs.p95 ?? null),
        },
      ];
    });
  return [...rates, ...load];
}

function milliseconds(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(0)} ms`;
}
