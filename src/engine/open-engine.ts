// Builds the engine's object graph over a converted base: sessions, K/V, caches, step loop.

import type { Architecture } from '../model/architecture.js';
import type { Manifest } from '../model/artifact.js';
import { CompiledModel } from '../model/compiled-model.js';
import { ropeTables } from '../model/rope.js';
import { Runtime } from '../runtime/runtime.js';
import { tokensRunTogetherExactly } from './exactness.js';
import { KvCache } from './kv-cache.js';
import { createMergedSlot, type MergedSlot } from './merging/merged-slot.js';
import { ModelRunner, type Embedding } from './model-runner.js';
import { PrefixCache } from './prefix-cache.js';
import { ServingEngine } from './serving-engine.js';

export interface OpenEngineOptions {
  readonly artifactFolder: string;
  readonly manifest: Manifest;
  readonly embedding: Embedding;
  readonly threads: number;
  /** The native kernels' library (runtime/native-kernels.ts), or null for the runtime's own operators alone. */
  readonly kernels: string | null;
  readonly slots: number;
  readonly contextLength: number;
  readonly prefillChunk: number;
  readonly maxWaiting: number;
  /** 0 turns the prompt-prefix cache off. */
  readonly prefixCacheBytes: number;
  readonly plainLora: boolean;
  /** Short prompts that wait together run side by side. */
  readonly batchPrompts: boolean;
  /** Guess a lone sequence's next tokens from its text; has effect where that changes no answer. */
  readonly promptLookup: boolean;
}

export interface OpenEngine {
  readonly engine: ServingEngine;
  readonly runner: ModelRunner;
  readonly mergedSlot: MergedSlot;
  /** Native objects still alive; 0 after dispose. */
  liveHandles(): number;
  dispose(): Promise<void>;
}

/** Tokens of a prefill run whose log-probabilities are all wanted: its logits are [32, V] in memory. */
const LOGPROB_CHUNK = 32;
/** A lone last token runs with a padding token behind it. */
const PADDING_TOKENS = 1;

export async function openEngine(options: OpenEngineOptions): Promise<OpenEngine> {
  const { manifest, contextLength, slots } = options;
  const arch: Architecture = manifest.architecture;
  const runtime = new Runtime(options.kernels);
  const model = await CompiledModel.open(runtime, options.artifactFolder, manifest, options.threads);
  const capacity = contextLength + PADDING_TOKENS;
  const kv = new KvCache(runtime, arch, slots + 1, capacity);
  const { embedding, plainLora } = options;
  // A checkpoint's own dynamic scaling reaches as far as it is asked to.
  const reach = Math.max(arch.contextLength, contextLength);
  const rope = ropeTables({ ...arch, contextLength: reach }, capacity);
  const runner = await ModelRunner.create({
    runtime,
    model,
    arch,
    embedding,
    kv,
    rope,
    plainLora,
    // Beside weights and inputs that are rounded to 4 and 8 bits, f16 makes no difference.
    halfLora: manifest.weights !== 'f32',
  });
  const promptLookup = options.promptLookup && (await tokensRunTogetherExactly(runner));
  const engine = new ServingEngine({
    arch,
    runner,
    kv,
    prefixCache: new PrefixCache(options.prefixCacheBytes),
    limits: {
      prefillChunk: options.prefillChunk,
      logprobChunk: Math.min(LOGPROB_CHUNK, options.prefillChunk),
      batchPrompts: options.batchPrompts,
    },
    contextLength,
    eosTokenIds: manifest.eosTokenIds,
    maxWaiting: options.maxWaiting,
    promptLookup,
    drawSeed: () => Math.floor(Math.random() * Number.MAX_SAFE_INTEGER),
  });
  const mergedSlot = createMergedSlot(runtime, options.threads, (merged) => engine.useMerged(merged));
  return {
    engine,
    runner,
    mergedSlot,
    liveHandles: () => runtime.liveHandles,
    dispose: async () => {
      await engine.dispose();
      await model.dispose();
    },
  };
}
