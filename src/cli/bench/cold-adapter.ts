// How long an adapter's first token takes when the server has not loaded it yet, beside the same when it has.
import type { Architecture } from '../../model/architecture.js';
import type { ServerClient } from '../server-client.js';
import type { LoadClient } from './load-client.js';
import { asBlobs, changedAdapter, randomAdapter } from './random-adapter.js';
import { chatBody } from './scenario-run.js';
import { median } from './statistics.js';
import { modelTarget } from './target.js';

export interface ColdAdapter {
  readonly trials: number;
  /** Medians, in milliseconds. */
  readonly coldMs: number | null;
  readonly warmMs: number | null;
}

const NAME = 'benchmark-cold';
const SEED = 1_000;
const NEW_TOKENS = 4;

/** Each trial uploads an adapter of new content, asks it twice with prompts of the same length, and removes it. */
export async function measureColdAdapter(
  client: LoadClient,
  admin: ServerClient,
  arch: Architecture,
  trials: number,
): Promise<ColdAdapter> {
  const files = randomAdapter(arch, SEED);
  const target = modelTarget('', '', NAME, () => NAME);
  const cold: number[] = [];
  const warm: number[] = [];
  for (let trial = 0; trial < trials; trial++) {
    await admin.addAdapter(NAME, asBlobs(changedAdapter(files, trial)));
    for (const [index, times] of [cold, warm].entries()) {
      const { startMs, endMs, pieceMs } = await client.ask(
        '/v1/chat/completions',
        chatBody(target, 0, SEED + trial, index, NEW_TOKENS),
      );
      times.push((pieceMs[0] ?? endMs) - startMs);
    }
    await admin.removeAdapter(NAME);
  }
  return { trials, coldMs: median(cold), warmMs: median(warm) };
}
