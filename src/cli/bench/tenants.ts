// Many tenants with many adapters at once, one of them greedy: what each is served, whether anybody starves or gets another's adapter, and
// what the mix costs against one adapter. Closed loops: each tenant keeps its number of requests under way.
import { setMaxListeners } from 'node:events';
import { randomStream } from '../../engine/random.js';
import { assert } from '../../errors.js';
import type { Architecture } from '../../model/architecture.js';
import { LoadClient, type Answer } from './load-client.js';
import { asBlobs, changedAdapter, randomAdapter } from './random-adapter.js';
import { bearer, ServerClient } from '../server-client.js';
import { createTenants, statusOf, type TenantAccess } from './tenant-access.js';
import { judgeTenants, type TenantResult, type TenantTally } from './tenant-report.js';
import { pickWeighted, userText } from './workload.js';

export interface TenantLoadOptions {
  readonly url: string;
  readonly arch: Architecture;
  readonly quick: boolean;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

interface Tenant extends TenantAccess {
  readonly numUnderWay: number;
  /** Its adapters, and how often each is asked for. */
  readonly adapters: readonly { readonly name: string; readonly weight: number }[];
}

const NUM_TENANTS = 20;
const GREEDY_UNDER_WAY = 64;
const UNDER_WAY = 2;
/** Short, so that a tenant has many answers in little time. */
const NEW_TOKENS = 8;
const PROMPT_WORDS = 8;
/** Share of the time that passes before answers count. */
const WARM_UP = 0.2;

export async function measureTenants(options: TenantLoadOptions): Promise<TenantResult> {
  const { url, quick, log, signal } = options;
  const names = Array.from({ length: NUM_TENANTS }, (_, i) => (i === 0 ? 'greedy' : `tenant-${i}`));
  const { tenants: keys } = await createTenants(url, names);
  const tenants = keys.map((access, i) => ({
    ...access,
    numUnderWay: i === 0 ? GREEDY_UNDER_WAY : UNDER_WAY,
    adapters: adaptersOf(i, quick ? 1 : 5),
  }));
  await uploadAll(options, tenants);
  const seconds = quick ? 20 : 60;
  const [first] = tenants;
  const total = tenants.reduce((sum, { numUnderWay }) => sum + numUnderWay, 0);
  const alone = { ...first!, numUnderWay: total, adapters: first!.adapters.slice(0, 1) };
  for (const tenant of tenants) await checkOwn(url, tenant);
  log(`one adapter, ${seconds / 2} s`);
  const [single] = await runLoad(options, [alone], seconds / 2);
  log(`${NUM_TENANTS} tenants, ${seconds} s`);
  const mixed = await runLoad(options, tenants, seconds);
  signal.throwIfAborted();
  const statuses: number[] = [];
  for (const [i, tenant] of tenants.entries())
    statuses.push(await statusOf(url, tenant, tenants[(i + 1) % tenants.length]!.adapters[0]!.name));
  const numAdapters = tenants.reduce((sum, { adapters }) => sum + adapters.length, 0);
  return judgeTenants({
    seconds: seconds * (1 - WARM_UP),
    numAdapters,
    single: single!,
    singleSeconds: (seconds / 2) * (1 - WARM_UP),
    mixed,
    statuses,
  });
}

/** Adapter k of all is owned by tenant k modulo the tenants, and is asked for with weight 1 / (k + 1). */
function adaptersOf(tenant: number, count: number): Tenant['adapters'] {
  return Array.from({ length: count }, (_, i) => {
    const rank = i * NUM_TENANTS + tenant;
    return { name: `benchmark-${rank}`, weight: 1 / (rank + 1) };
  });
}

async function uploadAll(
  { url, arch, signal, log }: TenantLoadOptions,
  tenants: readonly Tenant[],
): Promise<void> {
  const files = randomAdapter(arch, 1);
  let version = 0;
  for (const tenant of tenants) {
    log(`adapters of ${tenant.name}`);
    const client = new ServerClient(url, tenant.key);
    for (const { name } of tenant.adapters) {
      signal.throwIfAborted();
      await client.addAdapter(name, asBlobs(changedAdapter(files, version++)));
    }
  }
}

/** Its most asked adapter answers it, which loads the adapter before anything is counted. */
async function checkOwn(url: string, tenant: Tenant): Promise<void> {
  const { name } = tenant.adapters[0]!;
  const status = await statusOf(url, tenant, name);
  assert(status === 200, `${tenant.name} got ${status} for its own adapter ${name}`);
}

/** Answers that end after the warm-up, until the time is up; what is under way then is broken off. */
async function runLoad(
  { url, signal }: TenantLoadOptions,
  tenants: readonly Tenant[],
  seconds: number,
): Promise<readonly TenantTally[]> {
  // Not AbortSignal.timeout: joined with others it may be collected before it fires (Node 20), and the load would never end.
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), seconds * 1000);
  const ended = AbortSignal.any([signal, over.signal]);
  setMaxListeners(0, ended);
  const countFromMs = performance.now() + 1000 * seconds * WARM_UP;
  const tallies = Promise.all(
    tenants.map(async (tenant, index) => {
      const client = new LoadClient(url, ended, bearer(tenant.key));
      const random = randomStream(index);
      const answers: Answer[] = [];
      const errors: string[] = [];
      let numForeign = 0;
      let next = 0;
      const worker = async (): Promise<void> => {
        while (!ended.aborted) {
          const { name } = pickWeighted(random(), tenant.adapters);
          try {
            const answer = await client.ask('/v1/completions', body(name, index, next++));
            if (answer.model !== name) numForeign++;
            if (answer.endMs >= countFromMs) answers.push(answer);
          } catch (error) {
            if (!ended.aborted) errors.push(String(error));
          }
        }
      };
      await Promise.all(Array.from({ length: tenant.numUnderWay }, worker));
      return { name: tenant.name, numUnderWay: tenant.numUnderWay, answers, errors, numForeign };
    }),
  );
  return tallies.finally(() => clearTimeout(timer));
}

function body(model: string, seed: number, index: number): Readonly<Record<string, unknown>> {
  return {
    model,
    prompt: userText(seed, index).split(' ').slice(0, PROMPT_WORDS).join(' '),
    max_tokens: NEW_TOKENS,
    stream: true,
    stream_options: { include_usage: true },
    ignore_eos: true,
    temperature: 0,
  };
}
