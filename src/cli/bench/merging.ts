// `bench --merging`: each form of merged weights, made and checked as a server does it but without bounds, so that all are timed; and the
// rate of unmerged steps beside a merge's process that nobody stops.
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { probePrompts } from '../../adapters/merging/probe-prompts.js';
import { MIN_GAIN, type FormReport } from '../../adapters/merging/report.js';
import type { LoraAdapter } from '../../adapters/types.js';
import { startMergeProcess } from '../../engine/merging/merge-process.js';
import { runMerge, type MergeOrder } from '../../engine/merging/merge-run.js';
import { MERGED_FORMS } from '../../model/merged/merged-model.js';
import type { OpenModel } from '../serve.js';
import { median } from './statistics.js';

export interface MergingResult {
  readonly forms: readonly FormReport[];
  /** Speed of steps beside the process of a merge, as a share of that alone, by rows. */
  readonly beside: readonly { readonly rows: number; readonly ratio: number }[];
}

export interface MergingOptions {
  readonly model: OpenModel;
  readonly artifactFolder: string;
  readonly adapter: LoraAdapter;
  readonly threads: number;
  /** As the server's: OpenEngineOptions.kernels. */
  readonly kernels: string | null;
  /** Most rows of a step. */
  readonly slots: number;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

const ROW_COUNTS = [1, 8, 16];
const MAX_PROBE_TOKENS = 128;
const STEPS = 24;

export async function measureMerging(options: MergingOptions): Promise<MergingResult> {
  const folder = mkdtempSync(join(options.artifactFolder, 'bench-merged-'));
  try {
    const order = orderOf(options, folder);
    const forms: FormReport[] = [];
    for (const form of MERGED_FORMS) {
      options.signal.throwIfAborted();
      options.log(`merging: ${form}`);
      await runMerge(
        { ...order, forms: [form] },
        (report) => forms.push(report),
        () => performance.now(),
      );
      rmSync(join(folder, form), { recursive: true, force: true });
    }
    options.log('merging: steps beside a merge');
    return { forms, beside: await stepsBeside(options, order) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function mergingMarkdown({ forms, beside }: MergingResult): string {
  const gains = (report: FormReport) => report.gain?.decode.map(({ ratio }) => ratio.toFixed(2)).join(' / ');
  const rows = forms.map((report) => [
    report.form,
    `${(report.buildMs / 1000).toFixed(1)} s`,
    `${(report.sizeBytes / 1e6).toFixed(0)} MB`,
    report.drift.meanKl.toFixed(4),
    report.drift.selfKl.toFixed(4),
    `${(100 * report.drift.top1).toFixed(1)} %`,
    gains(report) ?? '-',
    report.gain?.prefill.toFixed(2) ?? '-',
  ]);
  const counts = forms[0]?.gain?.decode.map(({ rows: count }) => count).join(' / ') ?? '';
  const head = [
    'form',
    'made in',
    'takes',
    'mean KL',
    "unmerged's own",
    'top-1',
    `steps of ${counts}`,
    'prompts',
  ];
  const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  const shares = beside.map(({ rows: count, ratio }) => `${(100 * ratio).toFixed(0)} % at ${count}`);
  return [
    '## Merged weights',
    '',
    `Speed relative to the unmerged path; a form is served from ${MIN_GAIN} on at every count of rows.`,
    '',
    ...lines,
    '',
    `Unmerged steps beside a merge that is not stopped: ${shares.join(', ')}.`,
  ].join('\n');
}

function orderOf(options: MergingOptions, folder: string): MergeOrder {
  const { model, adapter, artifactFolder, threads, kernels, slots } = options;
  return {
    artifactFolder,
    architecture: model.base.architecture,
    adapter,
    ...probePrompts(
      ({ question, answer }) => model.tokenizer.encode(`${question}\n${answer}`),
      MAX_PROBE_TOKENS,
    ),
    folder,
    forms: MERGED_FORMS,
    bounds: { maxMeanKl: Infinity, minTop1: 0 },
    threads,
    kernels,
    rowCounts: ROW_COUNTS.filter((rows) => rows <= slots),
  };
}

async function stepsBeside(
  { model: { runner }, adapter }: MergingOptions,
  order: MergeOrder,
): Promise<MergingResult['beside']> {
  const timeAll = async (): Promise<Map<number, number>> => {
    const times = new Map<number, number>();
    for (const rows of order.rowCounts) times.set(rows, await stepMs(runner, adapter, rows));
    return times;
  };
  const before = await timeAll();
  let begun: () => void;
  const isBegun = new Promise<void>((resolve) => (begun = resolve));
  // The fastest form to make tells that the process computes; then it is at the slowest.
  const merge = startMergeProcess(
    { ...order, forms: ['folded', 'int4'], bounds: { maxMeanKl: 0, minTop1: 2 } },
    () => begun(),
  );
  try {
    await isBegun;
    const during = await timeAll();
    return order.rowCounts.map((rows) => ({ rows, ratio: before.get(rows)! / during.get(rows)! }));
  } finally {
    merge.kill();
    await merge.result.catch(() => null);
  }
}

async function stepMs(runner: OpenModel['runner'], adapter: LoraAdapter, rows: number): Promise<number> {
  runner.activate([adapter]);
  const batch = Array.from({ length: rows }, (_, row) => ({ token: 1 + row, length: 64, adapter }));
  await runner.decode(batch);
  const times: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    const startMs = performance.now();
    await runner.decode(batch);
    times.push(performance.now() - startMs);
  }
  return median(times)!;
}
