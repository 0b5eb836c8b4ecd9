// Merging in the metrics: what each form drifts and gains, which one serves, and how merges ended. Asked for at each scrape.

import { Counter, Gauge } from 'prom-client';
import type { MergeStatus } from '../adapters/merging/status.js';
import type { ServerDependencies } from './dependencies.js';

type Deps = Pick<ServerDependencies, 'adapters' | 'metricsRegistry'>;

export function registerMergeGauges(deps: Deps, status: MergeStatus): void {
  const labels = ['adapter_name', 'form'];
  const registry = deps.metricsRegistry;
  const names = (hash: string) => deps.adapters.resident().filter((adapter) => adapter.hash === hash);
  const eachForm = (
    visit: (labels: { adapter_name: string; form: string }, report: Report, hash: string) => void,
  ) => {
    for (const { hash, reports } of status.all())
      for (const { name } of names(hash))
        for (const report of reports) visit({ adapter_name: name, form: report.form }, report, hash);
  };
  registry.registerMetric(
    new Gauge({
      name: 'merge_drift_kl_nats',
      help: 'Mean KL divergence of merged weights from the unmerged path on the probe prompts',
      labelNames: labels,
      registers: [],
      collect() {
        this.reset();
        eachForm((own, { drift }) => this.set(own, drift.meanKl));
      },
    }),
  );
  registry.registerMetric(
    new Gauge({
      name: 'merge_top1_agreement',
      help: 'Share of decided probe positions with the same most likely token; 1 is all',
      labelNames: labels,
      registers: [],
      collect() {
        this.reset();
        eachForm((own, { drift }) => this.set(own, drift.top1));
      },
    }),
  );
  registry.registerMetric(
    new Gauge({
      name: 'merge_decode_gain',
      help: 'Speed of a decoding step with merged weights relative to the unmerged path, by rows',
      labelNames: [...labels, 'rows'],
      registers: [],
      collect() {
        this.reset();
        eachForm((own, { gain }) => {
          for (const { rows, ratio } of gain?.decode ?? []) this.set({ ...own, rows: String(rows) }, ratio);
        });
      },
    }),
  );
  registry.registerMetric(
    new Gauge({
      name: 'merge_serving',
      help: 'Adapters that are served merged, by form',
      labelNames: labels,
      registers: [],
      collect() {
        this.reset();
        eachForm((own, { form }, hash) => {
          if (status.servedForm(hash) === form) this.set(own, 1);
        });
      },
    }),
  );
  registry.registerMetric(
    new Counter({
      name: 'merges_total',
      help: 'Merges by how they ended, and those started',
      labelNames: ['outcome'],
      registers: [],
      collect() {
        this.reset();
        for (const [outcome, count] of Object.entries(status.counts)) this.inc({ outcome }, count);
      },
    }),
  );
}

type Report = ReturnType<MergeStatus['reports']>[number];
