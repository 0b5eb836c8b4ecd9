// What the training service is asked for at each scrape: jobs by status, and the last figures of the job that runs here. Without one the
// figures have no series.

import { Gauge } from 'prom-client';
import type { JobFigures } from '../train/jobs/types.js';
import type { ServerDependencies } from './dependencies.js';

type Deps = Pick<ServerDependencies, 'training' | 'metricsRegistry'>;

export function registerTrainingGauges(deps: Deps): void {
  registerJobs(deps);
  figure(deps, 'training_loss', 'Training loss of the last step', (figures) => figures.loss);
  figure(deps, 'training_eval_loss', 'Loss over the held-out examples', (figures) => figures.evalLoss);
  figure(
    deps,
    'training_learning_rate',
    'Learning rate of the last step',
    ({ learningRate }) => learningRate,
  );
  figure(deps, 'training_gradient_norm', 'Gradient norm before clipping', (figures) => figures.gradNorm);
  figure(
    deps,
    'training_tokens_per_second',
    'Tokens trained on in a second, waits included',
    (figures) => figures.tokensPerSecond,
  );
}

function registerJobs({ training, metricsRegistry }: Deps): void {
  const self = new Gauge({
    name: 'training_jobs',
    help: 'Fine-tuning jobs of this base by status',
    labelNames: ['status'],
    registers: [metricsRegistry],
    async collect() {
      for (const [status, count] of Object.entries(await training.countByStatus()))
        self.set({ status }, count);
    },
  });
}

function figure(deps: Deps, name: string, help: string, value: (figures: JobFigures) => number | null): void {
  const self = new Gauge({
    name,
    help,
    // With a label a gauge has no series until it is set.
    labelNames: ['status'],
    registers: [deps.metricsRegistry],
    collect() {
      self.reset();
      const figures = deps.training.figures();
      const now = figures === null ? null : value(figures);
      if (now !== null) self.set({ status: 'running' }, now);
    },
  });
}
