// Tokens a second of one kind of work, the raw graph's and through HTTP: the same work on both, so that they can be divided.
import type { LoraAdapter } from '../../adapters/types.js';
import type { ModelRunner } from '../../engine/model-runner.js';
import { assert } from '../../errors.js';
import { closedLoop, type Answer, type LoadClient } from './load-client.js';
import type { Target } from './target.js';
import { NUM_ADAPTERS, tokenIds } from './workload.js';

/** `rows` prompts or sequences side by side; with 8 adapters row i has adapter i mod 8. */
export interface Work {
  readonly kind: 'decode' | 'prefill';
  readonly rows: number;
  readonly adapters: 0 | 1 | typeof NUM_ADAPTERS;
}

export interface RateSettings {
  /** Another for each work and round, or a server would know the prompts. */
  readonly seed: number;
  readonly vocabSize: number;
  /** Steps timed, or new tokens of each sequence. */
  readonly decodeTokens: number;
  /** Prompts timed, for each row. */
  readonly prefills: number;
}

/** Length of every prompt, in tokens. */
export const PROMPT_TOKENS = 128;

export const WORKS: readonly Work[] = [
  ...[1, 8, 16].flatMap((rows): Work[] => [
    { kind: 'decode', rows, adapters: 0 },
    { kind: 'decode', rows, adapters: 1 },
    { kind: 'prefill', rows, adapters: 0 },
  ]),
  { kind: 'prefill', rows: 8, adapters: 1 },
  { kind: 'decode', rows: 8, adapters: NUM_ADAPTERS },
  { kind: 'prefill', rows: 8, adapters: NUM_ADAPTERS },
];

/** Runs the graph alone: no server, no sampling, no text. Prompts run one after another, as one of 128 tokens fills the graph. */
export async function rawRate(
  runner: ModelRunner,
  work: Work,
  adapters: readonly LoraAdapter[],
  settings: RateSettings,
): Promise<number> {
  const { kind, rows } = work;
  const chosen = Array.from({ length: rows }, (_, row) => {
    const index = adapterOf(work, row);
    return index === null ? null : adapters[index]!;
  });
  runner.activate(chosen);
  const decode = (length: number) =>
    runner.decode(chosen.map((adapter, row) => ({ token: 1 + row, length, adapter })));
  const prefill = async (round: number): Promise<void> => {
    for (const [row, adapter] of chosen.entries())
      await runner.chunk(row, promptOf(settings, round * rows + row), 0, adapter, 'last');
  };
  if (kind === 'prefill') {
    await runner.chunk(0, promptOf(settings, 0), 0, chosen[0] ?? null, 'last');
    const ms = await timed(settings.prefills, prefill);
    return perSecond(settings.prefills * rows * PROMPT_TOKENS, ms);
  }
  await decode(PROMPT_TOKENS);
  const ms = await timed(settings.decodeTokens, (step) => decode(PROMPT_TOKENS + step));
  return perSecond(settings.decodeTokens * rows, ms);
}

/** The same work asked for through HTTP, by as many clients as there are rows. */
export async function httpRate(
  client: LoadClient,
  target: Target,
  work: Work,
  settings: RateSettings,
): Promise<number | null> {
  const { kind, rows } = work;
  const count = kind === 'decode' ? rows : rows * settings.prefills;
  const run = await closedLoop(rows, count, (index) =>
    client.ask('/v1/completions', {
      ...target.choose(adapterOf(work, index)),
      prompt: promptOf(settings, index),
      max_tokens: kind === 'decode' ? settings.decodeTokens : 1,
      stream: kind === 'decode',
      ...(kind === 'decode' && { stream_options: { include_usage: true } }),
      temperature: 0,
      ignore_eos: true,
    }),
  );
  if (run.errors.length > 0) throw new Error(`${target.name}: ${run.errors[0]}`);
  const cached = run.answers.reduce((sum, { numCachedTokens }) => sum + numCachedTokens, 0);
  assert(kind === 'decode' || cached === 0, `${cached} tokens of prompts that were to be new were cached`);
  return kind === 'decode' ? sharedDecodeRate(run.answers) : perSecond(count * PROMPT_TOKENS, run.wallMs);
}

/**
 * Tokens a second while all sequences decode: from the last one's first piece to the first one's end.
 * null where there is no such time. A piece counts as its answer's mean number of tokens a piece.
 */
export function sharedDecodeRate(answers: readonly Answer[]): number | null {
  const fromMs = Math.max(...answers.map(({ pieceMs }) => pieceMs[0] ?? Infinity));
  const toMs = Math.min(...answers.map(({ pieceMs }) => pieceMs.at(-1) ?? -Infinity));
  if (!(toMs > fromMs)) return null;
  const numTokens = answers.reduce((sum, { pieceMs, numTokens: own }) => {
    const within = pieceMs.filter((ms) => ms > fromMs && ms <= toMs).length;
    return sum + (within * own) / pieceMs.length;
  }, 0);
  return perSecond(numTokens, toMs - fromMs);
}

export function workName({ kind, rows, adapters }: Work): string {
  const who = adapters === 0 ? 'base' : adapters === 1 ? 'one LoRA r16' : `${adapters} LoRA r16`;
  return `${kind}, ${rows} at once, ${who}`;
}

function adapterOf({ adapters }: Work, row: number): number | null {
  return adapters === 0 ? null : row % adapters;
}

function promptOf({ seed, vocabSize }: RateSettings, index: number): number[] {
  return tokenIds(seed * 2 ** 20 + index, PROMPT_TOKENS, vocabSize);
}

async function timed(count: number, run: (index: number) => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  for (let i = 0; i < count; i++) await run(i);
  return performance.now() - startMs;
}

function perSecond(count: number, ms: number): number {
  return (count * 1000) / ms;
}
