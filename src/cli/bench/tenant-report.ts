// What a load of many tenants comes to: each one's service, Jain's index over them, the price of the mix, and what was not in order.
import type { Answer } from './load-client.js';
import { circumstanceLines, number, table, type Circumstances } from './report.js';
import { jain, ratio, spread, type Spread } from './statistics.js';

/** One tenant's answers, as they came. */
export interface TenantTally {
  readonly name: string;
  readonly numUnderWay: number;
  readonly answers: readonly Answer[];
  readonly errors: readonly string[];
  /** Answers that name another model than was asked. */
  readonly numForeign: number;
}

export interface TenantRow {
  readonly name: string;
  readonly numUnderWay: number;
  readonly answers: number;
  readonly tokensPerS: number;
  readonly firstTokenMs: Spread;
  readonly latencyMs: Spread;
  readonly failed: number;
}

export interface TenantResult {
  /** Counted, of the mix. */
  readonly seconds: number;
  readonly numAdapters: number;
  readonly rows: readonly TenantRow[];
  readonly singleTokensPerS: number;
  readonly mixedTokensPerS: number;
  /** Goodput of the mix over that of one adapter. */
  readonly goodputRatio: number | null;
  /** Over the tokens that tenants were served, all of which had requests under way at all times. */
  readonly jain: number | null;
  /** Where slots are given in the order of arrival, service goes by the number of requests under way. */
  readonly jainByArrival: number | null;
  readonly problems: readonly string[];
}

export const LEAST_JAIN = 0.95;
const NOT_FOUND = 404;

export function judgeTenants(measured: {
  readonly seconds: number;
  readonly numAdapters: number;
  /** Under the same number of requests, all for one adapter. */
  readonly single: TenantTally;
  readonly singleSeconds: number;
  readonly mixed: readonly TenantTally[];
  /** What tenants were answered who asked for an adapter of another. */
  readonly statuses: readonly number[];
}): TenantResult {
  const { seconds, numAdapters, single, singleSeconds, mixed, statuses } = measured;
  const all = [single, ...mixed];
  const errors = all.flatMap((tally) => tally.errors);
  const numForeign = all.reduce((sum, tally) => sum + tally.numForeign, 0);
  const numLetIn = statuses.filter((status) => status !== NOT_FOUND).length;
  const rows = mixed.map((tally) => rowOf(tally, seconds));
  const index = jain(rows.map(({ tokensPerS }) => tokensPerS));
  const singleTokensPerS = rowOf(single, singleSeconds).tokensPerS;
  const mixedTokensPerS = rows.reduce((sum, { tokensPerS }) => sum + tokensPerS, 0);
  return {
    seconds,
    numAdapters,
    rows,
    singleTokensPerS,
    mixedTokensPerS,
    goodputRatio: ratio(mixedTokensPerS, singleTokensPerS),
    jain: index,
    jainByArrival: jain(mixed.map(({ numUnderWay }) => numUnderWay)),
    problems: [
      ...(errors.length > 0 ? [`${errors.length} requests failed, the first with ${errors[0]}`] : []),
      ...(numForeign > 0 ? [`${numForeign} answers name another model than was asked`] : []),
      ...(numLetIn > 0 ? [`${numLetIn} requests for another tenant's adapter were not a 404`] : []),
      ...((index ?? 0) < LEAST_JAIN ? [`Jain's index is ${number(index, 3)}, below ${LEAST_JAIN}`] : []),
    ],
  };
}

export function tenantMarkdown(circumstance: Circumstances, result: TenantResult): string {
  const { rows, seconds, numAdapters } = result;
  return [
    `## ${rows.length} tenants, ${numAdapters} adapters\n`,
    circumstanceLines(circumstance),
    `- closed loops, answers of the last ${number(seconds, 0)} s of each load; adapters by popularity (Zipf)\n`,
    table(
      ['tenant', 'under way', 'answers', 'tok/s', 'first token p50', 'p95', 'latency p50', 'p95', 'failed'],
      rows.map((row) => [
        row.name,
        String(row.numUnderWay),
        String(row.answers),
        number(row.tokensPerS, 1),
        ...[row.firstTokenMs.p50, row.firstTokenMs.p95, row.latencyMs.p50, row.latencyMs.p95].map((ms) =>
          ms === null ? '-' : `${number(ms, 0)} ms`,
        ),
        String(row.failed),
      ]),
    ),
    '',
    table(
      ['what', 'value'],
      [
        ['tok/s, one adapter under as many requests', number(result.singleTokensPerS, 0)],
        ['tok/s, all tenants', number(result.mixedTokensPerS, 0)],
        ['all tenants / one adapter', number(result.goodputRatio, 2)],
        ["Jain's index over the tenants", number(result.jain, 3)],
        ['the same if slots went by arrival (computed)', number(result.jainByArrival, 3)],
      ],
    ),
    '',
    result.problems.length === 0
      ? 'Nobody starved and no border was crossed.'
      : `Not in order: ${result.problems.join('; ')}.`,
  ].join('\n');
}

function rowOf({ name, numUnderWay, answers, errors }: TenantTally, seconds: number): TenantRow {
  return {
    name,
    numUnderWay,
    answers: answers.length,
    tokensPerS: answers.reduce((sum, { numTokens }) => sum + numTokens, 0) / seconds,
    firstTokenMs: spread(
      answers.flatMap(({ startMs, pieceMs }) => (pieceMs[0] === undefined ? [] : [pieceMs[0] - startMs])),
    ),
    latencyMs: spread(answers.map(({ startMs, endMs }) => endMs - startMs)),
    failed: errors.length,
  };
}
