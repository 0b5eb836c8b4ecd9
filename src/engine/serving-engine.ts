// The step loop: admit -> schedule -> run -> sample -> emit. One run of the graph at a time, on its own thread; everything else
// happens between two runs. Every accepted request ends in exactly one outcome.

import type { PrefixAdapter, PromptEmbeddings, ServingAdapter } from '../adapters/types.js';
import { assert, GatewayError } from '../errors.js';
import type { Architecture } from '../model/architecture.js';
import { AdmissionQueue } from './admission-queue.js';
import { OUTPUT_TOKEN_WEIGHT, PROMPT_TOKEN_WEIGHT } from './fairness.js';
import { SCRATCH_ROW, type KvCache } from './kv-cache.js';
import { roundingOf, type MergedWeights } from './merging/merged-weights.js';
import type { ModelRunner } from './model-runner.js';
import { BLOCK_TOKENS, type PrefixCache } from './prefix-cache.js';
import { draftFrom } from './prompt-lookup.js';
import { checkRequest } from './request-check.js';
import { tokenLogprob } from './sampler.js';
import { nextRun, type Run, type SchedulerLimits } from './scheduler.js';
import { Sequence } from './sequence.js';
import { SlotTable } from './slots.js';
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
  /** A lone sequence's next tokens are guessed (prompt-lookup.ts) and checked in one run. Only where runs of several tokens are exact. */
  readonly promptLookup: boolean;
}

const RETRY_AFTER_S = 1;

export class ServingEngine implements Engine {
  readonly contextLength: number;
  readonly vocabSize: number;
  /** Told of every request as it arrives. */
  onRequest: ((adapter: ServingAdapter | null) => void) | null = null;
  readonly #options: EngineOptions;
  readonly #slots: SlotTable<Sequence>;
  readonly #queue = new AdmissionQueue<Sequence>();
  #numAdmitted = 0;
  /** Work that needs the graph for itself between two steps. */
  readonly #tasks: (() => Promise<void>)[] = [];
  #lastWasPrefill = false;
  #numSteps = 0;
  #numDraftTokens = 0;
  #numAcceptedTokens = 0;
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
    this.onRequest?.(request.adapter);
    if (this.#disposed) throw shuttingDown();
    const numFree = this.#slots.capacity - this.#slots.size;
    if (this.#queue.size >= this.#options.maxWaiting + numFree) this.#makeRoom(request);
    const sequence = new Sequence(request, this.#options.eosTokenIds, this.#options.drawSeed);
    const cancel = (): void => this.#cancel(sequence);
    request.signal.addEventListener('abort', cancel);
    this.#queue.add(sequence, { ...request, adapterKey: request.adapter?.hash ?? '' });
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
      numWaiting: this.#queue.size,
      numSlots: this.#slots.capacity,
      kvUsage: used / (this.#slots.capacity * kv.capacity),
      prefixCacheQueriedTokens: prefixCache.queriedTokens,
      prefixCacheHitTokens: prefixCache.hitTokens,
      numSteps: this.#numSteps,
      numDraftTokens: this.#numDraftTokens,
      numAcceptedTokens: this.#numAcceptedTokens,
      activeAdapters: runner.activeAdapters,
      waitingAdapters: [
        ...new Set(this.#queue.items.flatMap(({ adapter }) => (adapter ? [adapter.hash] : []))),
      ],
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

  /** Merged weights for runs in which every row has their adapter; swapped between two steps, after which no run uses those before. */
  useMerged(merged: MergedWeights | null): Promise<void> {
    if (this.#disposed) {
      this.#options.runner.useMerged(merged);
      return Promise.resolve();
    }
    return this.#exclusive(async () => void this.#options.runner.useMerged(merged));
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    this.#wake?.();
    await this.#stopped;
    for (const task of this.#tasks.splice(0)) await task();
    for (const sequence of [...this.#queue.items, ...this.#slots.all]) sequence.finish('cancelled', null);
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
      if (run.kind === 'decode') await this.#decodeNext(this.#slots.decoding);
      else if (run.kind === 'chunk') await this.#chunk(run.sequence, run.start, run.end);
      else await this.#prompts(run.sequences);
    } catch (cause) {
      const error = new GatewayError('engine_failed', 'The model run failed; see the log.', { cause });
      for (const sequence of this.#slots.all) sequence.fail(error);
    }
  }

  async #decodeNext(sequences: readonly Sequence[]): Promise<void> {
    const draft = sequences.length === 1 ? this.#draft(sequences[0]!) : [];
    if (draft.length > 0) await this.#check(sequences[0]!, draft);
    else await this.#decode(sequences);
  }

  /** The computation of bottlenecks depends on the number of rows in its last bits. */
  #draft({ tokens, adapter, draftSize, request, numGenerated }: Sequence): readonly number[] {
    if (!this.#options.promptLookup || adapter?.kind === 'bottleneck') return [];
    // The last token that may come needs no guess: it is what the run of the one before it gives.
    const size = Math.min(draftSize.next(), request.sampling.maxTokens - numGenerated - 1);
    return size > 0 ? draftFrom(tokens, size) : [];
  }

  /** Runs the last token and a draft together, and takes tokens as long as the draft has them. */
  async #check(sequence: Sequence, draft: readonly number[]): Promise<void> {
    const { tokens, length, adapter } = sequence;
    const slot = this.#slots.slotOf(sequence);
    const logits = await this.#options.runner.chunk(slot, [tokens.at(-1)!, ...draft], length, adapter, 'all');
    this.#noteRounding([sequence]);
    let numAccepted = -1;
    do {
      numAccepted++;
      sequence.numComputed++;
      this.#queue.charge(sequence, OUTPUT_TOKEN_WEIGHT);
      if (!sequence.finished) sequence.advance(this.#row(logits, numAccepted));
    } while (!sequence.finished && tokens.at(-1) === draft[numAccepted]);
    sequence.draftSize.note(numAccepted, draft.length);
    this.#numDraftTokens += draft.length;
    this.#numAcceptedTokens += numAccepted;
  }

  async #decode(sequences: readonly Sequence[]): Promise<void> {
    const logits = await this.#options.runner.decode(
      sequences.map(({ tokens, length, adapter }) => ({ token: tokens.at(-1)!, length, adapter })),
    );
    this.#noteRounding(sequences);
    sequences.forEach((sequence, row) => {
      sequence.numComputed++;
      this.#queue.charge(sequence, OUTPUT_TOKEN_WEIGHT);
      if (!sequence.finished) sequence.advance(this.#row(logits, row));
    });
  }

  async #chunk(sequence: Sequence, start: number, end: number): Promise<void> {
    const tokens = sequence.tokens.slice(start, end);
    const slot = this.#slots.slotOf(sequence);
    const wanted = sequence.promptLogprobs === null ? 'last' : 'all';
    const logits = await this.#options.runner.chunk(slot, tokens, sequence.length, sequence.adapter, wanted);
    sequence.numComputed = end;
    this.#noteRounding([sequence]);
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
    this.#noteRounding(sequences);
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
      const notRun = Math.max(0, sequence.numPrompt - sequence.numComputed);
      this.#queue.charge(sequence, -PROMPT_TOKEN_WEIGHT * notRun);
      this.#queue.ended(sequence);
    }
  }

  #admit(): void {
    while (this.#queue.size > 0 && this.#slots.canAdmit()) {
      const sequence = this.#queue.admit();
      sequence.admission = this.#numAdmitted++;
      this.#slots.admit(sequence);
      this.#restore(sequence, this.#slots.slotOf(sequence) + 1);
      // Before it runs, so that slots that are free together are shared out too; what is never run is given back.
      this.#queue.charge(sequence, PROMPT_TOKEN_WEIGHT * (sequence.numPrompt - sequence.numCached));
    }
  }

  /** Writes the virtual tokens' K/V and the cached beginning of the prompt into the row. */
  #restore(sequence: Sequence, row: number): void {
    const { kv, prefixCache } = this.#options;
    const { adapter, numVirtual, tokens, numPrompt } = sequence;
    sequence.rounding = this.#options.runner.roundingFor(adapter);
    if (adapter?.kind === 'prefix')
      adapter.layers.forEach(({ k, v }, layer) => {
        kv.writePrefix(row, layer, 'k', k);
        kv.writePrefix(row, layer, 'v', v);
      });
    if (sequence.promptLogprobs !== null) return;
    const hit = prefixCache.lookup(cacheRoot(sequence), tokens, numPrompt - 1);
    hit.blocks.forEach((values, i) => {
      const start = numVirtual + i * BLOCK_TOKENS;
      kv.write(row, start, start + BLOCK_TOKENS, values);
    });
    sequence.numComputed = hit.numTokens;
    sequence.numCached = hit.numTokens;
  }

  #keepPrefix(sequence: Sequence): void {
    const { kv, prefixCache } = this.#options;
    const { numVirtual, tokens, numComputed } = sequence;
    const row = this.#slots.slotOf(sequence) + 1;
    prefixCache.insert(cacheRoot(sequence), tokens, numComputed, (start, end, spare) =>
      kv.read(row, numVirtual + start, numVirtual + end, spare),
    );
  }

  /** Keys and values that rounded weights made are found by requests of these weights alone. */
  #noteRounding(sequences: readonly Sequence[]): void {
    const rounding = roundingOf(this.#options.runner.lastMerged);
    if (rounding !== '') for (const sequence of sequences) sequence.rounding = rounding;
  }

  /** Of a queue that is full: one of whoever holds most of it goes. Throws queue_full where that is the arriving request's own tenant. */
  #makeRoom(request: GenerationRequest): void {
    const loser = this.#queue.makesRoom(request);
    const numOwn = this.#queue.items.filter((other) => other.request.tenant === request.tenant).length;
    if (loser === null)
      throw queueFull(`${numOwn} of the ${this.#queue.size} requests in it are of this tenant`);
    const { tenant } = loser.request;
    loser.fail(
      queueFull(
        tenant === request.tenant
          ? 'this request made room for another fairness id of its tenant, of which fewer wait'
          : 'this request made room for another tenant, of which fewer wait',
      ),
    );
    this.#queue.withdraw(loser);
  }

  #cancel(sequence: Sequence): void {
    if (sequence.finished) return;
    sequence.finish('cancelled', null);
    this.#queue.withdraw(sequence);
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
      if (this.#queue.size > 0 || this.#tasks.length > 0 || this.#disposed) resolve();
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

/** Nothing is found under another's tenant or adapter, so that the time of an answer tells nothing of what others asked. */
function cacheRoot({ request: { tenant }, adapter, rounding }: Sequence): string {
  return JSON.stringify([tenant, adapter?.hash ?? 'base', ...(rounding === '' ? [] : [rounding])]);
}

function queueFull(why: string): GatewayError {
  return new GatewayError('queue_full', `The queue is full, and ${why}. Try again later, or raise --queue.`, {
    retryAfterS: RETRY_AFTER_S,
  });
}

function shuttingDown(): GatewayError {
  return new GatewayError('unavailable', 'The server is shutting down.');
}
