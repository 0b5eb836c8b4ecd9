// A run of the real trainer over the base that a server serves, and the loss of what it left as the server's own log-probabilities give it.
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TrainingEvent } from '../../src/train/events.js';
import { DEFAULT_OPTIONS, type TrainingOptions } from '../../src/train/options.js';
import { runTraining } from '../../src/train/run.js';
import type { RunningServer } from './running-server.js';

interface Message {
  readonly role: 'user' | 'assistant';
  readonly content: string;
}
export interface ChatRow {
  readonly messages: readonly Message[];
}
/** As OpenAI's preference files have it. */
export interface PairRow {
  readonly input: { readonly messages: readonly Message[] };
  readonly preferred_output: readonly Message[];
  readonly non_preferred_output: readonly Message[];
}
export interface Rows<T> {
  readonly training: readonly T[];
  readonly heldOut: readonly T[];
}

export interface TrainedRun {
  /** What can be served, by file name. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** The folder that has them. */
  readonly adapterFolder: string;
  /** Of the held-out rows: the best, whose adapter it is. */
  readonly evalLoss: number;
}

/** Trains to the end, in `folder`. */
export async function trainOn(
  artifactFolder: string,
  folder: string,
  rows: Rows<ChatRow | PairRow>,
  options: Partial<TrainingOptions>,
): Promise<TrainedRun> {
  mkdirSync(folder, { recursive: true });
  const file = (name: string, content: readonly unknown[]) => {
    const path = join(folder, name);
    writeFileSync(path, content.map((row) => `${JSON.stringify(row)}\n`).join(''));
    return { path, name };
  };
  const events: TrainingEvent[] = [];
  const outcome = await runTraining(
    {
      artifactFolder,
      options: { ...DEFAULT_OPTIONS, cutoffLength: 128, batchSize: 4, warmupRatio: 0, ...options },
      trainingFiles: [file('training.jsonl', rows.training)],
      validationFile: file('held-out.jsonl', rows.heldOut),
      folder,
      threads: 1,
    },
    {
      emit: (event) => events.push(event),
      control: () => 'run',
      yieldPoint: () => Promise.resolve(),
      sample: () => Promise.resolve([]),
    },
  );
  assert.match(outcome.kind, /^(finished|early_stopped)$/, JSON.stringify(outcome));
  const losses = events.flatMap((event) => (event.type === 'eval' ? [event.loss] : []));
  const adapterFolder = join(folder, 'adapter');
  const files = readdirSync(adapterFolder).map(
    (name) => [name, new Uint8Array(readFileSync(join(adapterFolder, name)))] as const,
  );
  return { files: new Map(files), adapterFolder, evalLoss: Math.min(...losses) };
}

/** The converted base in a server's data folder. */
export function artifactOf({ dataDir }: Pick<RunningServer, 'dataDir'>): string {
  const folder = join(dataDir, 'converted');
  const [name, ...others] = readdirSync(folder);
  assert(name !== undefined && others.length === 0, `${folder} has one converted base`);
  return join(folder, name);
}

/** Mean over the answers' tokens, end of turn among them, from the log-probabilities of `/v1/completions`. */
export async function servedLoss(
  server: Pick<RunningServer, 'client' | 'url'>,
  model: string,
  rows: readonly ChatRow[],
): Promise<number> {
  let [sum, count] = [0, 0];
  for (const { messages } of rows) {
    const scores = await answerLogprobs(server, model, messages.slice(0, -1), messages.at(-1)!);
    sum -= total(scores);
    count += scores.length;
  }
  return sum / count;
}

/** Mean of DPO's sigmoid loss over the pairs, the base being the reference. */
export async function servedPreferenceLoss(
  server: Pick<RunningServer, 'client' | 'url'>,
  base: string,
  policy: string,
  rows: readonly PairRow[],
  beta: number,
): Promise<number> {
  let sum = 0;
  for (const {
    input,
    preferred_output: [chosen],
    non_preferred_output: [rejected],
  } of rows) {
    const logRatio = async (answer: Message) =>
      total(await answerLogprobs(server, policy, input.messages, answer)) -
      total(await answerLogprobs(server, base, input.messages, answer));
    const margin = beta * ((await logRatio(chosen!)) - (await logRatio(rejected!)));
    sum += Math.log1p(Math.exp(-margin));
  }
  return sum / rows.length;
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

/** Of each token that the answer's turn adds to the prompt, up to the end of turn. */
async function answerLogprobs(
  { client, url }: Pick<RunningServer, 'client' | 'url'>,
  model: string,
  prompt: readonly Message[],
  answer: Message,
): Promise<number[]> {
  const open = await tokensOf(url, { messages: prompt, add_generation_prompt: true });
  const whole = await tokensOf(url, { messages: [...prompt, answer], add_generation_prompt: false });
  // ChatML has a line break behind the end of turn, which nobody has to say.
  const tokens = whole.slice(0, -1);
  assert.deepEqual(tokens.slice(0, open.length), open);
  const scored = await client.completions.create({
    model,
    prompt: tokens,
    max_tokens: 1,
    temperature: 0,
    logprobs: 0,
    echo: true,
  });
  const scores = scored.choices[0]!.logprobs!.token_logprobs!.slice(open.length, tokens.length);
  assert.equal(scores.length, tokens.length - open.length);
  return scores;
}

async function tokensOf(url: string, body: object): Promise<number[]> {
  const response = await fetch(`${url}/tokenize`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  assert.equal(response.status, 200);
  const { tokens }: { tokens: number[] } = JSON.parse(await response.text());
  return tokens;
}
