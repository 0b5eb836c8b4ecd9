// Runs of the serving graph: takes tokens (or embeddings) and slots, gives logits. Knows no sequences and no policy.
//
// Some processors multiply a lone row by 4-bit weights in another way than several rows: with other rounding, and without the
// folded minima (model/block-sums.ts). A trial run at the start tells; there a lone row runs beside a scratch row, so that a row's
// logits are the same bits whatever else is in the batch. Attention, too, computes one token of one row in another way than several
// tokens, so a prompt's lone last token runs with a padding token behind it: its logits are those of the prompt run whole.

import { bottleneckLayout } from '../adapters/bottleneck-layout.js';
import { loraLayout } from '../adapters/lora-layout.js';
import type { BottleneckAdapter, LoraAdapter, ServingAdapter } from '../adapters/types.js';
import type { Architecture } from '../model/architecture.js';
import type { CompiledModel } from '../model/compiled-model.js';
import type { Runtime } from '../runtime/runtime.js';
import type { Tensor } from '../runtime/tensor.js';
import { AffineFeeds } from './affine-feeds.js';
import { BankFeeds, type NamedTensor } from './bank-feeds.js';
import { SCRATCH_ROW, type KvCache } from './kv-cache.js';
import { roundingOf, runsMerged, type MergedWeights } from './merging/merged-weights.js';

/** Writes embedding rows [tokens, hidden]. */
export interface Embedding {
  lookup(tokens: ArrayLike<number>, out: Float32Array): void;
}

export interface RunnerOptions {
  readonly runtime: Runtime;
  readonly model: CompiledModel;
  readonly arch: Architecture;
  readonly embedding: Embedding;
  readonly kv: KvCache;
  readonly rope: { readonly cos: Float32Array; readonly sin: Float32Array };
  /** Forces the plain form of the adapters' computation. */
  readonly plainLora: boolean;
  /** Keeps LoRA matrices as f16 where the native kernels read them: half of what a step of many adapters reads. */
  readonly halfLora: boolean;
}

export interface DecodeRow {
  readonly token: number;
  /** Tokens in the row before this one. */
  readonly length: number;
  readonly adapter: ServingAdapter | null;
}

interface Batch {
  readonly firstRow: number;
  readonly numRows: number;
  readonly numTokens: number;
  readonly embeds: Float32Array;
  /** Tokens in each row after the run. */
  readonly lengths: readonly number[];
  readonly adapters: readonly (ServingAdapter | null)[];
  /** Indices into [numRows * numTokens]. */
  readonly logitRows: readonly number[];
}

export class ModelRunner {
  readonly #options: RunnerOptions;
  readonly #lora: BankFeeds<LoraAdapter>;
  readonly #bottleneck: BankFeeds<BottleneckAdapter>;
  readonly #affine: AffineFeeds;
  readonly #constants: readonly NamedTensor[];
  readonly #kvNames: readonly (readonly [string, string])[];
  #logits: Float32Array;
  #pairLoneRows = false;
  #merged: MergedWeights | null = null;
  #lastMerged: MergedWeights | null = null;

  private constructor(options: RunnerOptions) {
    const { runtime, arch, kv, rope, plainLora: plain, halfLora } = options;
    this.#options = options;
    const path = plain ? 'plain' : 'grouped';
    const loraPath = runtime.hasNativeKernels && !plain ? (halfLora ? 'rows16' : 'rows') : path;
    this.#lora = new BankFeeds(runtime, 'lora', loraLayout(arch), kv.numRows, loraPath);
    this.#bottleneck = new BankFeeds(runtime, 'bottleneck', bottleneckLayout(arch), kv.numRows, path);
    this.#affine = new AffineFeeds(runtime, arch);
    const table = [kv.capacity, arch.headDim / 2];
    this.#constants = [
      ['cos', runtime.tensor(rope.cos, table)],
      ['sin', runtime.tensor(rope.sin, table)],
    ];
    this.#kvNames = Array.from({ length: arch.numLayers }, (_, layer) =>
      ['k', 'v'].map((kind) => `${layer}.${kind}`),
    )
      .flat()
      .map((name) => [`past.${name}`, `present.${name}`] as const);
    this.#logits = new Float32Array(kv.numRows * arch.vocabSize);
  }

  static async create(options: RunnerOptions): Promise<ModelRunner> {
    const runner = new ModelRunner(options);
    runner.#pairLoneRows = !(await runner.#loneRowIsExact());
    return runner;
  }

  /** Whether a lone row runs beside a scratch row. */
  get pairsLoneRows(): boolean {
    return this.#pairLoneRows;
  }

  /** Runs in which every row has the merged adapter use its weights from now on. Between two runs; returns those used before. */
  useMerged(merged: MergedWeights | null): MergedWeights | null {
    const before = this.#merged;
    this.#merged = merged;
    return before;
  }

  /** Of a request with this adapter, were it to run now. */
  roundingFor(adapter: ServingAdapter | null): string {
    return adapter !== null && adapter.hash === this.#merged?.hash ? roundingOf(this.#merged) : '';
  }

  /** The merged weights that the last run used, or null. */
  get lastMerged(): MergedWeights | null {
    return this.#lastMerged;
  }

  get activeAdapters(): readonly string[] {
    return [...this.#lora.activeAdapters, ...this.#bottleneck.activeAdapters];
  }

  /** Brings the adapters of all sequences that hold a slot into the banks. */
  activate(adapters: readonly (ServingAdapter | null)[]): void {
    this.#lora.activate(distinct(adapters.map(lowRank)));
    this.#bottleneck.activate(distinct(adapters.map(bottleneckOnly)));
  }

  /** One token each for slots [0, rows.length). Logits [rows, V]: scratch memory, valid until the next run. */
  async decode(rows: readonly DecodeRow[]): Promise<Float32Array> {
    const { arch, embedding } = this.#options;
    const paired = this.#pairLoneRows && rows.length === 1;
    const offset = paired ? 1 : 0;
    const embeds = new Float32Array((rows.length + offset) * arch.hiddenSize);
    embedding.lookup(
      rows.map(({ token }) => token),
      embeds.subarray(offset * arch.hiddenSize),
    );
    return this.#run({
      firstRow: paired ? SCRATCH_ROW : SCRATCH_ROW + 1,
      numRows: rows.length + offset,
      numTokens: 1,
      embeds,
      lengths: [...(paired ? [1] : []), ...rows.map(({ length }) => length + 1)],
      adapters: [...(paired ? [null] : []), ...rows.map(({ adapter }) => adapter)],
      logitRows: rows.map((_, i) => i + offset),
    });
  }

  /** `tokens` after the `length` that the slot holds. Logits [1, V] of the last, or [tokens, V] of all. */
  async chunk(
    slot: number,
    tokens: readonly number[],
    length: number,
    adapter: ServingAdapter | null,
    wanted: 'last' | 'all',
  ): Promise<Float32Array> {
    const embeds = new Float32Array(tokens.length * this.#options.arch.hiddenSize);
    this.#options.embedding.lookup(tokens, embeds);
    return this.#embedded(slot + 1, embeds, tokens.length, length, adapter, wanted);
  }

  /** Whole prompts side by side from `firstSlot` on, each row padded on the right to the longest. Logits [prompts, V] of their last tokens. */
  async prompts(
    firstSlot: number,
    prompts: readonly (readonly number[])[],
    adapters: readonly (ServingAdapter | null)[],
  ): Promise<Float32Array> {
    const { arch, embedding } = this.#options;
    const longest = Math.max(2, ...prompts.map(({ length }) => length));
    const embeds = new Float32Array(prompts.length * longest * arch.hiddenSize);
    prompts.forEach((tokens, i) => embedding.lookup(tokens, embeds.subarray(i * longest * arch.hiddenSize)));
    return this.#run({
      firstRow: firstSlot + 1,
      numRows: prompts.length,
      numTokens: longest,
      embeds,
      lengths: prompts.map(({ length }) => length),
      adapters,
      logitRows: prompts.map(({ length }, i) => i * longest + length - 1),
    });
  }

  /** Runs embeddings [numTokens, hidden] from an empty scratch row on; their K/V are then in KvCache's row SCRATCH_ROW. */
  async embeddings(embeddings: Float32Array, numTokens: number): Promise<void> {
    await this.#embedded(SCRATCH_ROW, embeddings, numTokens, 0, null, 'last');
  }

  dispose(): void {
    this.#lora.dispose();
    this.#bottleneck.dispose();
    this.#affine.dispose();
    for (const [, tensor] of this.#constants) tensor.dispose();
  }

  async #embedded(
    row: number,
    embeds: Float32Array,
    numTokens: number,
    length: number,
    adapter: ServingAdapter | null,
    wanted: 'last' | 'all',
  ): Promise<Float32Array> {
    const padded = numTokens === 1;
    const { hiddenSize } = this.#options.arch;
    const values = padded ? new Float32Array(2 * hiddenSize) : embeds;
    if (padded) values.set(embeds);
    return this.#run({
      firstRow: row,
      numRows: 1,
      numTokens: padded ? 2 : numTokens,
      embeds: values,
      lengths: [length + (padded ? 2 : numTokens)],
      adapters: [adapter],
      logitRows: wanted === 'last' ? [numTokens - 1] : Array.from({ length: numTokens }, (_, i) => i),
    });
  }

  async #run(batch: Batch): Promise<Float32Array> {
    const { runtime, arch, kv, model } = this.#options;
    const rows = batch.firstRow === SCRATCH_ROW ? batch.adapters.slice(1) : batch.adapters;
    const merged = runsMerged(this.#merged, rows, batch.numTokens) ? this.#merged : null;
    this.#lastMerged = merged;
    const adapters = merged === null ? batch.adapters : batch.adapters.map(() => null);
    const lora = this.#lora.prepare(adapters.map(lowRank), batch.numTokens);
    const bottleneck = this.#bottleneck.prepare(adapters.map(bottleneckOnly), batch.numTokens);
    const affine = this.#affine.prepare(adapters.map(loraOnly));
    const logits = this.#logitsFor(batch.logitRows.length);
    const own: NamedTensor[] = [...lora.own, ...bottleneck.own, ...this.#batchInputs(batch)];
    const output = runtime.tensor(logits, [batch.logitRows.length, arch.vocabSize]);
    const cache = kv.tensors(batch.firstRow, batch.numRows);
    const pick = (side: 0 | 1): NamedTensor[] => this.#kvNames.map((names, i) => [names[side], cache[i]!]);
    const banks = [...lora.bank, ...bottleneck.bank];
    const inputs = [...this.#constants, ...own, ...banks, ...(affine ?? []), ...pick(0)];
    try {
      const variant = { lora: lora.form, bottleneck: bottleneck.form, affine: affine !== null };
      const session = merged?.session ?? (await model.session(variant));
      await session.run(inputs, [['logits', output], ...pick(1)]);
    } finally {
      for (const [, tensor] of own) tensor.dispose();
      output.dispose();
    }
    return logits;
  }

  #batchInputs({ numRows, numTokens, embeds, lengths, logitRows }: Batch): NamedTensor[] {
    const { runtime, arch } = this.#options;
    const tensors: Record<string, Tensor> = {
      embeds: runtime.tensor(embeds, [numRows, numTokens, arch.hiddenSize]),
      seqlens_k: runtime.tensor(
        Int32Array.from(lengths, (length) => length - 1),
        [numRows],
      ),
      total_len: runtime.tensor(Int32Array.of(Math.max(numTokens, ...lengths)), []),
      logit_rows: runtime.tensor(
        BigInt64Array.from(logitRows, (row) => BigInt(row)),
        [logitRows.length],
      ),
    };
    return Object.entries(tensors);
  }

  #logitsFor(numRows: number): Float32Array {
    const size = numRows * this.#options.arch.vocabSize;
    if (this.#logits.length < size) this.#logits = new Float32Array(size);
    return this.#logits.subarray(0, size);
  }

  /** Whether one row alone gives the same bits as beside another. */
  async #loneRowIsExact(): Promise<boolean> {
    const { arch } = this.#options;
    const row = Float32Array.from({ length: arch.hiddenSize }, (_, i) => Math.sin(i + 1));
    const both = new Float32Array(2 * arch.hiddenSize);
    both.set(row);
    both.set(row, arch.hiddenSize);
    const run = async (numRows: number): Promise<Float32Array> =>
      (
        await this.#run({
          firstRow: SCRATCH_ROW,
          numRows,
          numTokens: 1,
          embeds: numRows === 1 ? row : both,
          lengths: Array.from({ length: numRows }, () => 1),
          adapters: Array.from({ length: numRows }, () => null),
          logitRows: [0],
        })
      ).slice();
    const [alone, beside] = [await run(1), await run(2)];
    return alone.every((value, i) => value === beside[i]);
  }
}

function loraOnly(adapter: ServingAdapter | null): LoraAdapter | null {
  return adapter?.kind === 'lora' ? adapter : null;
}

function bottleneckOnly(adapter: ServingAdapter | null): BottleneckAdapter | null {
  return adapter?.kind === 'bottleneck' ? adapter : null;
}

function distinct<A extends { readonly hash: string }>(adapters: readonly (A | null)[]): A[] {
  const byHash = new Map(adapters.map((adapter) => [adapter?.hash, adapter]));
  return [...byHash.values()].filter((adapter) => adapter !== null);
}

/** The adapter as the bank of low-rank updates sees it: those with scales and biases alone have no place there. */
function lowRank(adapter: ServingAdapter | null): LoraAdapter | null {
  return adapter?.kind === 'lora' && adapter.maxRank > 0 ? adapter : null;
}
