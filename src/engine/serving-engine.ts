// The step loop: admit -> schedule -> run -> sample -> emit. One run of the graph at a time, on its own thread; everything else
// happens between two runs. Every accepted request ends in exactly one outcome.

import type { PrefixAdapter, PromptEmbeddings, ServingAdapter } from '../adapters/types.js';
import { assert, GatewayError } from '../errors.js';
import type { Architecture } from '../model/architecture.js';
import { SCRATCH_ROW, type KvCache } from './kv-cache.js';
import type { ModelRunner } from './model-runner.js';
import { BLOCK_TOKENS, type PrefixCache } from './prefix-cache.js';
import { checkRequest } from './request-check.js';
import { tokenLogprob } from './sampler.js';
import { adapterKey, nextRun, nextToAdmit, type Run, type SchedulerLimits } from './scheduler.js';
import { Sequence } from './sequence.js';
import { SlotTable } from './slots.js';
import { Turns } from './turns.js';
import type { Engine, EngineStats, GenerationEvent, GenerationRequest } from './types.js';

export interface EngineOptions {
  readonly arch: Architecture;
  readonly runner: ModelRunner;
  readonly kv: KvCache;
  readonly prefixCache: PrefixCache;
  readonly limits: SchedulerLimits;
  /** Longest prompt plus output, virtual tokens included. */
  readonly contextLength: number;
  readonly eosTokenIds: readonly number[];
  /** Requests that may wait for a slot. */
  readonly maxWaiting: number;
  readonly drawSeed: () => number;
}

const RETRY_AFTER_S = 1;

export class ServingEngine implements Engine {
  readonly contextLength: number;
  readonly vocabSize: number;
  readonly #options: EngineOptions;
  readonly #slots: SlotTable<Sequence>;
  readonly #waiting: Sequence[] = [];
  readonly #turns = new Turns();
  #numAdmitted = 0;
  /** Work that needs the graph for itself between two steps. */
  readonly #tasks: (() => Promise<void>)[] = [];
  #lastWasPrefill = false;
  #numSteps = 0;
  #wake: (() => void) | null = null;
  #disposed = false;
  readonly #stopped: Promise<void>;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.contextLength = options.contextLength;
    this.vocabSize = options.arch.vocabSize;
    const { kv } = options;
    this.#slots = new SlotTable(kv.numRows - 1, {
      move: (from, to) => kv.copyRow(from + 1, to + 1, this.#lengthAt(from)),
      swap: (a, b) => kv.swapRows(a + 1, b + 1, Math.max(this.#lengthAt(a), this.#lengthAt(b))),
    });
    this.#stopped = this.#loop();
  }

  generate(request: GenerationRequest): AsyncGenerator<GenerationEvent, void, undefined> {
    checkRequest(request, this.contextLength, this.vocabSize);
    if (this.#disposed) throw shuttingDown();
    const numFree = this.#slots.capacity - this.#slots.size;
    if (this.#waiting.length >= this.#options.maxWaiting + numFree)
      throw new GatewayError(
        'queue_full',
        `${this.#waiting.length} requests wait already, the most that may. Try again later, or raise --queue.`,
        { retryAfterS: RETRY_AFTER_S },
      );
    const sequence = new Sequence(request, this.#options.eosTokenIds, this.#options.drawSeed);
    const cancel = (): void => this.#cancel(sequence);
    request.signal.addEventListener('abort', cancel);
    this.#waiting.push(sequence);
    if (request.signal.aborted) cancel();
    this.#wake?.();
    return sequence.events(() => {
      request.signal.removeEventListener('abort', cancel);
      cancel();
    });
  }

  stats(): EngineStats {
    const { prefixCache, kv, runner } = this.#options;
    const used = this.#slots.all.reduce((sum, sequence) => sum + sequence.length, 0);
    return {
      numRunning: this.#slots.size,
      numWaiting: this.#waiting.length,
      numSlots: this.#slots.capacity,
      kvUsage: used / (this.#slots.capacity * kv.capacity),
      prefixCacheQueriedTokens: prefixCache.queriedTokens,
      prefixCacheHitTokens: prefixCache.hitTokens,
      numSteps: this.#numSteps,
      activeAdapters: runner.activeAdapters,
      waitingAdapters: [...new Set(this.#waiting.flatMap(({ adapter }) => (adapter ? [adapter.hash] : [])))],
    };
  }

  /** Keys and values of virtual tokens given as embeddings (prompt tuning, P-tuning): run once, between two steps. */
  async computePrefix(prompt: PromptEmbeddings): Promise<PrefixAdapter> {
    const { runner, kv, arch } = this.#options;
    if (prompt.numVirtualTokens >= this.contextLength)
      throw new GatewayError(
        'invalid_adapter',
        `The adapter has ${prompt.numVirtualTokens} virtual tokens, the context holds ${this.contextLength}.`,
      );
    return this.#exclusive(async () => {
      await runner.embeddings(prompt.embeddings, prompt.numVirtualTokens);
      const layers = Array.from({ length: arch.numLayers }, (_, layer) => ({
        k: kv.readPrefix(SCRATCH_ROW, layer, 'k', prompt.numVirtualTokens),
        v: kv.readPrefix(SCRATCH_ROW, layer, 'v', prompt.numVirtualTokens),
      }));
      const sizeBytes = layers.reduce((sum, { k, v }) => sum + k.byteLength + v.byteLength, 0);
      const { hash, numVirtualTokens } = prompt;
      return { kind: 'prefix', hash, sizeBytes, numVirtualTokens, layers };
    });
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    this.#wake?.();
    await this.#stopped;
    for (const task of this.#tasks.splice(0)) await task();
    for (const sequence of [...this.#waiting.splice(0), ...this.#slots.all])
      sequence.finish('cancelled', null);
    this.#options.runner.dispose();
    this.#options.kv.dispose();
  }

  async #loop(): Promise<void> {
    while (!this.#disposed) {
      for (const task of this.#tasks.splice(0)) await task();
      this.#retire();
      this.#admit();
      const run = nextRun(
        this.#slots.numDecoding,
        this.#slots.prefilling,
        this.#lastWasPrefill,
        this.#options.limits,
      );
      if (run === null) await this.#idle();
      else await this.#step(run);
    }
  }

  async #step(run: Run): Promise<void> {
    this.#lastWasPrefill = run.kind !== 'decode';
    this.#numSteps++;
    try {
      this.#options.runner.activate(this.#slots.all.map(({ adapter }) => adapter));
      if (run.kind === 'decode') await this.#decode(this.#slots.decoding);
      else if (run.kind === 'chunk') await this.#chunk(run.sequence, run.start, run.end);
      else await this.#prompts(run.sequences);
    } catch (cause) {
      const error = new GatewayError('engine_failed', 'The model run failed; see the log.', { cause });
      for (const sequence of this.#slots.all) sequence.fail(error);
    }
  }

  async #decode(sequences: readonly Sequence[]): Promise<void> {
    const logits = await this.#options.runner.decode(
      sequences.map(({ tokens, length, adapter }) => ({ token: tokens.at(-1)!, length, adapter })),
    );
    sequences.forEach((sequence, row) => {
      sequence.numComputed++;
      if (!sequence.finished) sequence.advance(this.#row(logits, row));
    });
  }

  async #chunk(sequence: Sequence, start: number, end: number): Promise<void> {
    const tokens = sequence.tokens.slice(start, end);
    const slot = this.#slots.slotOf(sequence);
    const wanted = sequence.promptLogprobs === null ? 'last' : 'all';
    const logits = await this.#options.runner.chunk(slot, tokens, sequence.length, sequence.adapter, wanted);
    sequence.numComputed = end;
    if (sequence.promptLogprobs !== null) this.#collectPromptLogprobs(sequence, logits, start, end);
    if (end === sequence.numPrompt)
      this.#prefilled(sequence, this.#row(logits, wanted === 'last' ? 0 : end - start - 1));
  }

  async #prompts(sequences: readonly Sequence[]): Promise<void> {
    const logits = await this.#options.runner.prompts(
      this.#slots.slotOf(sequences[0]!),
      sequences.map(({ tokens }) => tokens),
      sequences.map(({ adapter }) => adapter),
    );
    sequences.forEach((sequence) => (sequence.numComputed = sequence.numPrompt));
    sequences.forEach((sequence, row) => this.#prefilled(sequence, this.#row(logits, row)));
  }

  #collectPromptLogprobs(sequence: Sequence, logits: Float32Array, start: number, end: number): void {
    const numTop = sequence.request.sampling.logprobs ?? 0;
    for (let position = start; position < end && position + 1 < sequence.numPrompt; position++)
      sequence.promptLogprobs!.push(
        tokenLogprob(this.#row(logits, position - start), sequence.tokens[position + 1]!, numTop),
      );
  }

  /** The prompt has run: its blocks are kept, the sequence joins the decoding rows with its first token. */
  #prefilled(sequence: Sequence, logits: Float32Array): void {
    this.#keepPrefix(sequence);
    this.#slots.promote(sequence);
    if (sequence.finished) return;
    const { numCached: numCachedTokens, promptLogprobs } = sequence;
    sequence.emit({ type: 'prompt', numCachedTokens, promptLogprobs });
    if (sequence.request.sampling.maxTokens === 0) sequence.finish('length', null);
    else sequence.advance(logits);
  }

  /** Ended sequences give their slots back; what they computed stays in the prefix cache. */
  #retire(): void {
    for (const sequence of [...this.#slots.all].filter(({ finished }) => finished)) {
      this.#keepPrefix(sequence);
      this.#slots.release(sequence);
    }
  }

  #admit(): void {
    while (this.#waiting.length > 0 && this.#slots.canAdmit()) {
      const index = nextToAdmit(this.#waiting, this.#slots.all, this.#turns);
      const sequence = this.#waiting.splice(index, 1)[0]!;
      this.#turns.admitted(adapterKey(sequence));
      sequence.admission = this.#numAdmitted++;
      this.#slots.admit(sequence);
      this.#restore(sequence, this.#slots.slotOf(sequence) + 1);
    }
  }

  /** Writes the virtual tokens' K/V and the cached beginning of the prompt into the row. */
  #restore(sequence: Sequence, row: number): void {
    const { kv, prefixCache } = this.#options;
    const { adapter, numVirtual, tokens, numPrompt } = sequence;
    if (adapter?.kind === 'prefix')
      adapter.layers.forEach(({ k, v }, layer) => {
        kv.writePrefix(row, layer, 'k', k);
        kv.writePrefix(row, layer, 'v', v);
      });
    if (sequence.promptLogprobs !== null) return;
    const hit = prefixCache.lookup(cacheRoot(adapter), tokens, numPrompt - 1);
    hit.blocks.forEach((values, i) => {
      const start = numVirtual + i * BLOCK_TOKENS;
      kv.write(row, start, start + BLOCK_TOKENS, values);
    });
    sequence.numComputed = hit.numTokens;
    sequence.numCached = hit.numTokens;
  }

  #keepPrefix(sequence: Sequence): void {
    const { kv, prefixCache } = this.#options;
    const { adapter, numVirtual, tokens, numComputed } = sequence;
    const row = this.#slots.slotOf(sequence) + 1;
    prefixCache.insert(cacheRoot(adapter), tokens, numComputed, (start, end) =>
      kv.read(row, numVirtual + start, numVirtual + end),
    );
  }

  #cancel(sequence: Sequence): void {
    if (sequence.finished) return;
    sequence.finish('cancelled', null);
    const index = this.#waiting.indexOf(sequence);
    if (index !== -1) this.#waiting.splice(index, 1);
    this.#wake?.();
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    if (this.#disposed) throw shuttingDown();
    return new Promise<T>((resolve, reject) => {
      this.#tasks.push(async () => {
        if (this.#disposed) reject(shuttingDown());
        else await work().then(resolve, reject);
      });
      this.#wake?.();
    });
  }

  async #idle(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (this.#waiting.length > 0 || this.#tasks.length > 0 || this.#disposed) resolve();
    });
    this.#wake = null;
  }

  #row(logits: Float32Array, row: number): Float32Array {
    return logits.subarray(row * this.vocabSize, (row + 1) * this.vocabSize);
  }

  #lengthAt(slot: number): number {
    const sequence = this.#slots.all[slot];
    assert(sequence !== undefined, `slot ${slot} is empty`);
    return sequence.length;
  }
}

function cacheRoot(adapter: ServingAdapter | null): string {
  return adapter === null ? 'base' : adapter.hash;
}

function shuttingDown(): GatewayError {
  return new GatewayError('unavailable', 'The server is shutting down.');
}
