// A merge from beginning to end: each form is made, checked and measured in turn, and the first that is within the bounds and faster
// is taken. Runs in a process of its own (worker.ts); what it leaves is a folder that the server opens.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { isWithin, type DriftBounds } from '../../adapters/merging/drift.js';
import { isFaster, type FormReport } from '../../adapters/merging/report.js';
import { mergedBias, projectionChange, rowMerger } from '../../adapters/merge-weights.js';
import type { LoraAdapter } from '../../adapters/types.js';
import type { Architecture } from '../../model/architecture.js';
import { openArtifact } from '../../model/artifact-reader.js';
import { CompiledModel } from '../../model/compiled-model.js';
import {
  mergedBytes,
  openMerged,
  writeMerged,
  type MergedForm,
  type MergeMaterial,
} from '../../model/merged/merged-model.js';
import { ropeTables } from '../../model/rope.js';
import { Runtime } from '../../runtime/runtime.js';
import { KvCache } from '../kv-cache.js';
import { ModelRunner } from '../model-runner.js';
import { measureDrift, measureGain, TIMED_TOKENS } from './merge-check.js';

export interface MergeOrder {
  readonly artifactFolder: string;
  /** As it is served: positions may be scaled otherwise than the artifact says. */
  readonly architecture: Architecture;
  readonly adapter: LoraAdapter;
  /** Token ids; fixed texts, never a user's. */
  readonly calibration: readonly (readonly number[])[];
  readonly checks: readonly (readonly number[])[];
  /** Each form gets a folder of its name in it. */
  readonly folder: string;
  readonly forms: readonly MergedForm[];
  readonly bounds: DriftBounds;
  readonly threads: number;
  /** As the server's: OpenEngineOptions.kernels. */
  readonly kernels: string | null;
  /** Rows of the steps that are timed. */
  readonly rowCounts: readonly number[];
}

/** Resolves to the form whose folder is left, or null. `report` is told of every form that was tried. */
export async function runMerge(
  order: MergeOrder,
  report: (report: FormReport) => void,
  now: () => number,
): Promise<MergedForm | null> {
  const runtime = new Runtime(order.kernels);
  const artifact = openArtifact(order.artifactFolder);
  const { architecture: arch } = order;
  const base = { ...artifact, manifest: { ...artifact.manifest, architecture: arch } };
  const model = await CompiledModel.open(runtime, base.folder, base.manifest, order.threads);
  const longest = Math.max(...order.checks.map(({ length }) => length), TIMED_TOKENS) + 1;
  const kv = new KvCache(runtime, arch, Math.max(...order.rowCounts) + 1, longest);
  const runner = await ModelRunner.create({
    runtime,
    model,
    arch,
    embedding: base.readEmbeddingTable(),
    kv,
    rope: ropeTables(arch, longest),
    plainLora: false,
    halfLora: base.manifest.weights !== 'f32',
  });
  try {
    for (const form of order.forms) {
      const found = await tryForm(form, order, materialOf(order, runtime, base, model), runner, now);
      report(found);
      if (found.verdict === 'served') return form;
      rmSync(join(order.folder, form), { recursive: true, force: true });
    }
    return null;
  } finally {
    runner.dispose();
    kv.dispose();
    await model.dispose();
  }
}

async function tryForm(
  form: MergedForm,
  order: MergeOrder,
  material: MergeMaterial,
  runner: ModelRunner,
  now: () => number,
): Promise<FormReport> {
  const { runtime, base } = material;
  const { adapter, bounds, checks, threads, rowCounts } = order;
  const folder = join(order.folder, form);
  const startMs = now();
  await writeMerged(form, material, folder);
  const merged = await openMerged(runtime, form, folder, threads);
  const buildMs = now() - startMs;
  try {
    const weights = { hash: adapter.hash, form, session: merged.session, servesPrefill: true };
    const run = { runner, adapter, merged: weights };
    const drift = await measureDrift(run, checks, base.manifest.architecture.vocabSize);
    const common = { form, drift, sizeBytes: mergedBytes(form, folder), buildMs };
    if (!isWithin(drift, bounds)) return { ...common, gain: null, verdict: 'drifts' };
    const gain = await measureGain(run, rowCounts, now);
    return { ...common, gain, verdict: isFaster(gain) ? 'served' : 'not faster' };
  } finally {
    await merged.dispose();
  }
}

function materialOf(
  { adapter, threads, calibration }: MergeOrder,
  runtime: Runtime,
  base: ReturnType<typeof openArtifact>,
  model: CompiledModel,
): MergeMaterial {
  const changeOf = (layer: number, projection: Parameters<typeof projectionChange>[1]) =>
    projectionChange(adapter.layers[layer]!, projection);
  return {
    runtime,
    base,
    model,
    threads,
    prompts: calibration,
    layers: adapter.layers,
    changes: {
      rowMerger(layer, projection, cols) {
        const change = changeOf(layer, projection);
        if (change === null) return null;
        const { lora, affine } = change;
        const isWeight = lora !== null || affine?.outScale != null || affine?.inScale != null;
        return isWeight ? rowMerger(change, cols) : null;
      },
      bias: (layer, projection, own) => mergedBias(own, changeOf(layer, projection)),
    },
  };
}
