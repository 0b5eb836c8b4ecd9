// One scenario of chat requests against one server, and what its rounds come to.
import { closedLoop, type LoadClient, type LoadRun } from './load-client.js';
import { spread, type Spread } from './statistics.js';
import type { Target } from './target.js';
import { adapterPicks, SYSTEM_PROMPT, userText, type Scenario } from './workload.js';

export interface LoadSummary {
  readonly target: string;
  readonly scenario: string;
  readonly pick: Scenario['pick'];
  readonly concurrency: number;
  readonly requests: number;
  readonly tokensPerS: number;
  readonly latencyMs: Spread;
  readonly firstTokenMs: Spread;
  readonly errors: readonly string[];
}

export function runScenario(
  client: LoadClient,
  target: Target,
  scenario: Scenario,
  seed: number,
): Promise<LoadRun> {
  const picks = adapterPicks(scenario.pick, scenario.requests, seed);
  return closedLoop(scenario.concurrency, scenario.requests, (index) =>
    client.ask(
      '/v1/chat/completions',
      chatBody(target, picks[index] ?? null, seed, index, scenario.maxTokens),
    ),
  );
}

export function chatBody(
  target: Target,
  adapter: number | null,
  seed: number,
  index: number,
  maxTokens: number,
): Readonly<Record<string, unknown>> {
  return {
    messages: [
      { role: 'system', content: SYSTEM_PROMPT },
      { role: 'user', content: userText(seed, index) },
    ],
    max_tokens: maxTokens,
    stream: true,
    stream_options: { include_usage: true },
    ignore_eos: true,
    temperature: 0,
    ...target.choose(adapter),
  };
}

/** All rounds of one scenario on one server as one. */
export function summarize(target: Target, scenario: Scenario, rounds: readonly LoadRun[]): LoadSummary {
  const answers = rounds.flatMap((round) => round.answers);
  const errors = rounds.flatMap((round) => round.errors);
  const wallMs = rounds.reduce((sum, round) => sum + round.wallMs, 0);
  const numTokens = answers.reduce((sum, answer) => sum + answer.numTokens, 0);
  return {
    target: target.name,
    scenario: scenario.name,
    pick: scenario.pick,
    concurrency: scenario.concurrency,
    requests: answers.length + errors.length,
    tokensPerS: (numTokens * 1000) / wallMs,
    latencyMs: spread(answers.map(({ startMs, endMs }) => endMs - startMs)),
    firstTokenMs: spread(
      answers.flatMap(({ startMs, pieceMs }) => (pieceMs[0] === undefined ? [] : [pieceMs[0] - startMs])),
    ),
    errors,
  };
}
