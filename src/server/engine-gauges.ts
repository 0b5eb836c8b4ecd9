// What the engine and the adapter service are asked for at each scrape: load, cache, and which adapters are resident.
// Nothing is kept here between scrapes, so no series of an adapter that has gone stays behind.

import { Counter, Gauge } from 'prom-client';
import type { EngineStats } from '../engine/types.js';
import type { ServerDependencies } from './dependencies.js';

type Deps = Pick<ServerDependencies, 'engine' | 'adapters' | 'base' | 'clock' | 'metricsRegistry'>;

export function registerEngineGauges(deps: Deps): void {
  gauge(deps, 'vllm:num_requests_running', 'Sequences in the batch', (stats) => stats.numRunning);
  gauge(deps, 'vllm:num_requests_waiting', 'Sequences in the queue', (stats) => stats.numWaiting);
  gauge(deps, 'vllm:kv_cache_usage_perc', 'Share of the K/V rows in use; 1 is all', (stats) => stats.kvUsage);
  counter(
    deps,
    'vllm:prefix_cache_queries_total',
    'Prompt tokens looked up in the prefix cache',
    (stats) => stats.prefixCacheQueriedTokens,
  );
  counter(
    deps,
    'vllm:prefix_cache_hits_total',
    'Prompt tokens found in the prefix cache',
    (stats) => stats.prefixCacheHitTokens,
  );
  counter(
    deps,
    'vllm:spec_decode_num_draft_tokens_total',
    'Tokens that were guessed from the text before',
    (stats) => stats.numDraftTokens,
  );
  counter(
    deps,
    'vllm:spec_decode_num_accepted_tokens_total',
    'Guessed tokens that were right',
    (stats) => stats.numAcceptedTokens,
  );
  registerLoraInfo(deps);
  registerResidency(deps);
}

function gauge(deps: Deps, name: string, help: string, value: (stats: EngineStats) => number): void {
  const self = new Gauge({
    name,
    help,
    labelNames: ['model_name'],
    registers: [deps.metricsRegistry],
    collect() {
      self.set({ model_name: deps.base.name }, value(deps.engine.stats()));
    },
  });
}

function counter(deps: Deps, name: string, help: string, value: (stats: EngineStats) => number): void {
  const self = new Counter({
    name,
    help,
    labelNames: ['model_name'],
    registers: [deps.metricsRegistry],
    collect() {
      self.reset();
      self.inc({ model_name: deps.base.name }, value(deps.engine.stats()));
    },
  });
}

/**
 * The endpoint picker takes the series with the largest value, a time: so exactly one series, and residency rather than
 * activity under running_lora_adapters, or an idle server would look as if it had to load what it holds.
 */
function registerLoraInfo(deps: Deps): void {
  const self = new Gauge({
    name: 'vllm:lora_requests_info',
    help: 'Adapters loaded and adapters waited for; the value is the time, in Unix seconds',
    labelNames: ['max_lora', 'running_lora_adapters', 'waiting_lora_adapters'],
    registers: [deps.metricsRegistry],
    collect() {
      const stats = deps.engine.stats();
      const resident = deps.adapters.resident();
      const waiting = resident.filter((adapter) => stats.waitingAdapters.includes(adapter.hash));
      self.reset();
      self.set(
        {
          max_lora: String(stats.numSlots),
          running_lora_adapters: nameList(resident),
          waiting_lora_adapters: nameList(waiting),
        },
        Math.floor(deps.clock() / 1000),
      );
    },
  });
}

function registerResidency(deps: Deps): void {
  const self = new Gauge({
    name: 'vllm:lora_adapter_loaded',
    help: 'Adapters in memory: level active is in the batch graph, loaded is ready beside it; pinned is in use',
    labelNames: ['adapter_name', 'level', 'pinned'],
    registers: [deps.metricsRegistry],
    collect() {
      const active = new Set(deps.engine.stats().activeAdapters);
      self.reset();
      for (const { name, hash, pins } of deps.adapters.resident()) {
        const level = active.has(hash) ? 'active' : 'loaded';
        self.set({ adapter_name: name, level, pinned: String(pins > 0) }, 1);
      }
    },
  });
}

function nameList(adapters: readonly { readonly name: string }[]): string {
  return [...new Set(adapters.map((adapter) => adapter.name))].toSorted().join(',');
}
