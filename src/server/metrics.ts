// What the server counts itself: requests, sequences, tokens, times. Names and labels are vLLM's, so that its dashboards
// and the Gateway API's endpoint pickers read them; one series for each model-wide family.

import { collectDefaultMetrics, Counter, Histogram, type Registry } from 'prom-client';

export type SequenceOutcome = 'stop' | 'length' | 'abort' | 'error';

const OUTCOMES: readonly SequenceOutcome[] = ['stop', 'length', 'abort', 'error'];

export interface SequenceRecord {
  readonly outcome: SequenceOutcome;
  readonly startedMs: number;
  readonly firstTokenMs: number | null;
  readonly lastTokenMs: number;
  readonly numTokens: number;
}

const SECONDS = [
  0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
];
const SECONDS_PER_TOKEN = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5];

export class ServerMetrics {
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  readonly #model: { readonly model_name: string };
  readonly #outcomes: Counter<'model_name' | 'finished_reason'>;
  readonly #httpRequests: Counter<'route' | 'method' | 'status'>;
  readonly #firstToken: Histogram<'model_name'>;
  readonly #perToken: Histogram<'model_name'>;
  readonly #endToEnd: Histogram<'model_name'>;
  #numPromptTokens = 0;
  #numGeneratedTokens = 0;

  constructor(registry: Registry, modelName: string, clock: () => number) {
    this.now = clock;
    this.#model = { model_name: modelName };
    const registers = [registry];
    this.#outcomes = new Counter({
      name: 'vllm:request_success_total',
      help: 'Sequences that the engine took on, by how they ended: stop, length, abort (cancelled) or error',
      labelNames: ['model_name', 'finished_reason'],
      registers,
    });
    for (const outcome of OUTCOMES) this.#outcomes.inc({ ...this.#model, finished_reason: outcome }, 0);
    this.#httpRequests = new Counter({
      name: 'http_requests_total',
      help: 'HTTP requests by route, method and status; 499 is a client that went before its answer',
      labelNames: ['route', 'method', 'status'],
      registers,
    });
    this.#firstToken = this.#histogram(registry, 'time_to_first_token', 'Arrival to first token', SECONDS);
    this.#perToken = this.#histogram(
      registry,
      'time_per_output_token',
      'Mean time of each token after the first, once a sequence',
      SECONDS_PER_TOKEN,
    );
    this.#endToEnd = this.#histogram(registry, 'e2e_request_latency', 'Arrival to end', SECONDS);
    this.#tally(registry, 'vllm:prompt_tokens_total', 'Prompt tokens run', () => this.#numPromptTokens);
    this.#tally(registry, 'vllm:generation_tokens_total', 'Tokens given out', () => this.#numGeneratedTokens);
    collectDefaultMetrics({ register: registry });
  }

  promptRan(numTokens: number): void {
    this.#numPromptTokens += numTokens;
  }

  tokenGenerated(): void {
    this.#numGeneratedTokens++;
  }

  sequenceEnded(record: SequenceRecord): void {
    this.#outcomes.inc({ ...this.#model, finished_reason: record.outcome });
    this.#endToEnd.observe(this.#model, (this.now() - record.startedMs) / 1000);
    if (record.firstTokenMs === null) return;
    this.#firstToken.observe(this.#model, (record.firstTokenMs - record.startedMs) / 1000);
    if (record.numTokens < 2) return;
    const decodeMs = record.lastTokenMs - record.firstTokenMs;
    this.#perToken.observe(this.#model, decodeMs / (record.numTokens - 1) / 1000);
  }

  httpAnswered(route: string, method: string, status: number): void {
    this.#httpRequests.inc({ route, method, status: String(status) });
  }

  #histogram(registry: Registry, name: string, help: string, buckets: number[]): Histogram<'model_name'> {
    return new Histogram({
      name: `vllm:${name}_seconds`,
      help: `${help}, in seconds`,
      labelNames: ['model_name'],
      buckets,
      registers: [registry],
    });
  }

  /** A counter whose value is a plain number until someone scrapes it: tokens are counted on the hot path. */
  #tally(registry: Registry, name: string, help: string, value: () => number): void {
    const labels = this.#model;
    const counter = new Counter({
      name,
      help,
      labelNames: ['model_name'],
      registers: [registry],
      collect() {
        counter.reset();
        counter.inc(labels, value());
      },
    });
  }
}
