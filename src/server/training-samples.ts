// Answers of an adapter that is still being trained, for people to look at: its files are loaded without being registered, asked
// greedily through the engine like any request, and forgotten.

import type { AdapterBase } from '../adapters/base.js';
import { readPeft } from '../adapters/peft.js';
import type { PrefixAdapter, PromptEmbeddings, ServingAdapter } from '../adapters/types.js';
import { greedySampling } from './greedy-sampling.js';
import type { Engine, FairClaim } from '../engine/types.js';
import { DEFAULT_TENANT } from '../tenants/types.js';
import type { TextTokenizer } from '../tokenizer/types.js';
import { finishSteps } from './prompt-tokens.js';

export interface SamplingParts {
  readonly engine: Engine;
  readonly tokenizer: TextTokenizer;
  readonly base: AdapterBase;
  /** Runs virtual tokens through the base, giving their keys and values. */
  readonly runPrompt: (embeddings: PromptEmbeddings) => Promise<PrefixAdapter>;
}

export interface Sample {
  readonly prompt: string;
  readonly text: string;
}

const MAX_TOKENS = 128;
/** Behind everybody's requests. */
const CLAIM: FairClaim = { tenant: DEFAULT_TENANT, fairnessId: null, priority: -1 };

/** One answer for each prompt, in order. Throws what the adapter's reader, the tokenizer and the engine throw. */
export async function sampleAdapter(
  parts: SamplingParts,
  prompts: readonly string[],
  files: ReadonlyMap<string, Uint8Array>,
  signal: AbortSignal,
): Promise<readonly Sample[]> {
  const { content } = await readPeft(files, parts.base);
  const adapter = content.kind === 'prompt' ? await parts.runPrompt(content) : content;
  const samples: Sample[] = [];
  for (const prompt of prompts)
    samples.push({ prompt, text: await answerPrompt(parts, prompt, adapter, signal) });
  return samples;
}

async function answerPrompt(
  { engine, tokenizer }: SamplingParts,
  prompt: string,
  adapter: ServingAdapter,
  signal: AbortSignal,
): Promise<string> {
  const promptTokens = await promptTokensOf(tokenizer, prompt);
  const numVirtual = adapter.kind === 'prefix' ? adapter.numVirtualTokens : 0;
  const room = Math.max(1, engine.contextLength - promptTokens.length - numVirtual);
  const events = engine.generate({
    ...CLAIM,
    promptTokens,
    adapter,
    sampling: greedySampling(Math.min(MAX_TOKENS, room)),
    promptLogprobs: false,
    signal,
  });
  const decoder = tokenizer.streamDecoder();
  let text = '';
  for await (const event of events) if (event.type === 'token') text += decoder.push(event.token);
  return text + decoder.flush();
}

/** A conversation of one message, or the text itself where the base has no chat template. */
function promptTokensOf(tokenizer: TextTokenizer, prompt: string): Promise<number[]> {
  if (tokenizer.chatTemplateHash === null) return finishSteps(tokenizer.encodeSteps(prompt));
  const messages = [{ role: 'user', content: prompt }];
  return finishSteps(tokenizer.encodeChatSteps(messages, { addGenerationPrompt: true }));
}
