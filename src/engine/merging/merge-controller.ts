// Merging beside serving: counts requests, starts a merge of the hottest adapter once the server has been idle, stops it at the first
// request, swaps the copy in, and drops it when its adapter has gone or memory is short. Decisions are adapters/merging/policy.ts's.

import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DriftBounds } from '../../adapters/merging/drift.js';
import { Hotness } from '../../adapters/merging/hotness.js';
import { formsLeft, nextToMerge } from '../../adapters/merging/policy.js';
import type { FormReport } from '../../adapters/merging/report.js';
import type { MergeStatus } from '../../adapters/merging/status.js';
import type { LoraAdapter, ServingAdapter } from '../../adapters/types.js';
import { MERGED_FORMS, type MergedForm } from '../../model/merged/merged-model.js';
import type { MergedSlot } from './merged-slot.js';
import type { MergeProcess, StartMerge } from './merge-process.js';
import type { MergeOrder } from './merge-run.js';

export interface MergeSettings {
  readonly idleMs: number;
  readonly bounds: DriftBounds;
  /** With less free memory than this nothing is merged, and what is merged is dropped. */
  readonly minFreeBytes: number;
}

export interface MergeOptions {
  readonly settings: MergeSettings;
  readonly slot: MergedSlot;
  /** Holds a folder for each merge; made and emptied as needed. */
  readonly folder: string;
  /** What is the same of every merge; asked for when one begins. */
  readonly order: () => Omit<MergeOrder, 'adapter' | 'folder' | 'forms' | 'bounds'>;
  readonly startMerge: StartMerge;
  readonly isBusy: () => boolean;
  /** Whether a registered adapter has this content now: combinations of several are none. */
  readonly isRegistered: (hash: string) => Promise<boolean>;
  readonly freeBytes: () => number;
  /** Unix milliseconds. */
  readonly clock: () => number;
  readonly log: (message: string, fields?: Readonly<Record<string, unknown>>) => void;
}

export class MergeController implements MergeStatus {
  readonly counts = { started: 0, served: 0, refused: 0, stopped: 0, failed: 0 };
  readonly #options: MergeOptions;
  readonly #hotness = new Hotness();
  /** Held weakly: what is no longer loaded is not hot. */
  readonly #adapters = new Map<string, WeakRef<LoraAdapter>>();
  readonly #reports = new Map<string, FormReport[]>();
  #lastBusyMs: number;
  #running: MergeProcess | null = null;
  #isStopping = false;
  #numMerges = 0;
  #merged: { readonly hash: string; readonly form: MergedForm; readonly folder: string } | null = null;
  /** Changes of the copy happen one after another. */
  #work: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(options: MergeOptions) {
    this.#options = options;
    this.#lastBusyMs = options.clock();
  }

  reports(hash: string): readonly FormReport[] {
    return this.#reports.get(hash) ?? [];
  }

  servedForm(hash: string): MergedForm | null {
    return this.#merged?.hash === hash ? this.#merged.form : null;
  }

  all(): readonly { readonly hash: string; readonly reports: readonly FormReport[] }[] {
    return [...this.#reports].map(([hash, reports]) => ({ hash, reports }));
  }

  /** Of every request, as it arrives: a merge under way stops at once. */
  requested(adapter: ServingAdapter | null): void {
    const nowMs = this.#options.clock();
    this.#lastBusyMs = nowMs;
    this.#stop();
    if (adapter?.kind !== 'lora') return;
    this.#hotness.count(adapter.hash, nowMs);
    this.#adapters.set(adapter.hash, new WeakRef(adapter));
  }

  /** To be called every second or so; resolves when what it found to do is done, but for a merge, which goes on by itself. */
  async tick(): Promise<void> {
    if (this.#isClosed) return;
    const { isBusy, clock, settings } = this.#options;
    if (isBusy()) this.#lastBusyMs = clock();
    await this.#dropOutdated();
    if (this.#running !== null || isBusy() || this.#isShort()) return;
    const nowMs = clock();
    const hash = nextToMerge({
      idleMs: nowMs - this.#lastBusyMs,
      requiredIdleMs: settings.idleMs,
      hotness: this.#hotness,
      nowMs,
      mergedHash: this.#merged?.hash ?? null,
      formsLeft: (each) => this.#formsLeft(each),
    });
    if (hash === null) return;
    if (await this.#options.isRegistered(hash)) this.#start(hash);
    else this.#forget(hash);
  }

  /** Resolves when no merge runs and no change of the copy is under way. */
  async settled(): Promise<void> {
    await this.#running?.result.catch(() => null);
    await this.#work;
  }

  /** Before the engine is disposed. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stop();
    await this.settled();
    await this.#drop();
    rmSync(this.#options.folder, { recursive: true, force: true });
  }

  #stop(): void {
    if (this.#running === null) return;
    this.#isStopping = true;
    this.#running.kill();
  }

  #formsLeft(hash: string): readonly MergedForm[] {
    return this.#adapters.get(hash)?.deref() === undefined ? [] : formsLeft(MERGED_FORMS, this.reports(hash));
  }

  #start(hash: string): void {
    const adapter = this.#adapters.get(hash)?.deref();
    if (adapter === undefined || this.#running !== null || this.#isClosed || this.#options.isBusy()) return;
    const { order, settings, startMerge, log } = this.#options;
    mkdirSync(this.#options.folder, { recursive: true });
    const folder = join(this.#options.folder, `${hash.slice(0, 16)}-${this.#numMerges++}`);
    const forms = this.#formsLeft(hash);
    this.counts.started++;
    log('merging an adapter', { hash, forms });
    const running = startMerge({ ...order(), adapter, folder, forms, bounds: settings.bounds }, (report) =>
      this.#note(hash, report),
    );
    this.#running = running;
    this.#work = this.#finish(running, hash, folder).catch((error: unknown) => {
      this.counts.failed++;
      log('merged weights could not be used', { hash, error: String(error) });
    });
  }

  async #finish(running: MergeProcess, hash: string, folder: string): Promise<void> {
    const { log } = this.#options;
    let form: MergedForm | null = null;
    try {
      form = await running.result;
      if (form === null) this.counts.refused++;
    } catch (error) {
      const stopped = this.#isStopping;
      this.counts[stopped ? 'stopped' : 'failed']++;
      // A request stops a merge; it is begun anew. One that fails by itself would fail again.
      if (!stopped) this.#forget(hash);
      log(stopped ? 'a merge was stopped by a request' : 'a merge failed', { hash, reason: String(error) });
    } finally {
      this.#running = null;
      this.#isStopping = false;
    }
    const isUsed = form !== null && !this.#isClosed && (await this.#options.isRegistered(hash));
    if (isUsed) await this.#swapIn(hash, form!, folder);
    else rmSync(folder, { recursive: true, force: true });
  }

  async #swapIn(hash: string, form: MergedForm, folder: string): Promise<void> {
    const gain = this.reports(hash).findLast((report) => report.form === form)?.gain;
    const before = this.#merged;
    try {
      await this.#options.slot.swap({
        hash,
        form,
        folder: join(folder, form),
        servesPrefill: gain != null && gain.prefill >= 1,
      });
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
    this.#merged = { hash, form, folder };
    this.counts.served++;
    this.#options.log('merged weights in use', { hash, form });
    if (before !== null) rmSync(before.folder, { recursive: true, force: true });
  }

  async #dropOutdated(): Promise<void> {
    if (this.#merged === null) return;
    const { hash } = this.#merged;
    const isShort = this.#isShort();
    if (!isShort && (await this.#options.isRegistered(hash))) return;
    this.#options.log('merged weights dropped', {
      hash,
      reason: isShort ? 'memory is short' : 'the version has gone',
    });
    await this.#drop();
    if (!isShort) this.#forget(hash);
  }

  async #drop(): Promise<void> {
    const merged = this.#merged;
    if (merged === null) return;
    this.#merged = null;
    await this.#options.slot.swap(null);
    rmSync(merged.folder, { recursive: true, force: true });
  }

  #isShort(): boolean {
    return this.#options.freeBytes() < this.#options.settings.minFreeBytes;
  }

  #note(hash: string, report: FormReport): void {
    const others = this.reports(hash).filter(({ form }) => form !== report.form);
    this.#reports.set(hash, [...others, report]);
    this.#options.log('a merged form was checked', { hash, ...report });
  }

  #forget(hash: string): void {
    this.#hotness.forget(hash);
    this.#adapters.delete(hash);
    this.#reports.delete(hash);
  }
}
