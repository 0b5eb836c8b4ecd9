// A base with one adapter in its weights, in one of three forms, as a folder: written once, then opened by whoever serves it. Each has
// one session, for batches in which every row has the adapter.

import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  readdirSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import type { Runtime } from '../../runtime/runtime.js';
import type { Session } from '../../runtime/session.js';
import { MANIFEST_FILE, WEIGHTS_FILE, type Manifest } from '../artifact.js';
import type { Artifact } from '../artifact-reader.js';
import { CompiledModel } from '../compiled-model.js';
import { BASE_VARIANT, drawServingGraph, type GraphWeights } from '../serving-graph.js';
import { inputStatistics, writeActivationGraph } from './activations.js';
import { foldedConstants, type LayerChange } from './folded-adapter.js';
import type { InputStatistics } from './input-statistics.js';
import { writeMergedArtifact, type MergeSource } from './merged-artifact.js';

/** In the order of their speed: rounded to 4 or to 8 bits, or as constants beside the base's own weights. */
export const MERGED_FORMS = ['int4', 'int8', 'folded'] as const;
export type MergedForm = (typeof MERGED_FORMS)[number];

export interface MergedModel {
  readonly session: Session;
  dispose(): Promise<void>;
}

export interface MergeMaterial {
  readonly runtime: Runtime;
  readonly base: Artifact;
  readonly model: CompiledModel;
  readonly threads: number;
  readonly layers: readonly LayerChange[];
  readonly changes: Pick<MergeSource, 'rowMerger' | 'bias'>;
  /** Token ids. */
  readonly prompts: readonly (readonly number[])[];
}

const FOLDED_FILE = 'folded.onnx';
const ARTIFACT = 'artifact';

/** Makes a form in `folder`, which must not exist. */
export async function writeMerged(form: MergedForm, material: MergeMaterial, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  if (form === 'folded') return writeFolded(material, join(folder, FOLDED_FILE));
  const { runtime, base, threads, changes } = material;
  const statistics = form === 'int4' ? await gatherStatistics(material, folder) : null;
  const factors: MergeSource['factors'] = (group) => statistics!.get(group)!.factors();
  const artifact = join(folder, ARTIFACT);
  await writeMergedArtifact(base, form, { ...changes, factors }, artifact);
  await (await CompiledModel.open(runtime, artifact, readManifest(artifact), threads)).dispose();
  rmSync(join(artifact, WEIGHTS_FILE));
}

export async function openMerged(
  runtime: Runtime,
  form: MergedForm,
  folder: string,
  threads: number,
): Promise<MergedModel> {
  if (form === 'folded') {
    const session = await CompiledModel.load(runtime, join(folder, FOLDED_FILE), threads);
    return { session, dispose: async () => session.dispose() };
  }
  const artifact = join(folder, ARTIFACT);
  const model = await CompiledModel.open(runtime, artifact, readManifest(artifact), threads);
  return { session: await model.session(BASE_VARIANT), dispose: () => model.dispose() };
}

/** What the form takes beside the base, on disk and, mapped, in memory. */
export function mergedBytes(form: MergedForm, folder: string): number {
  if (form === 'folded') return statSync(join(folder, FOLDED_FILE)).size;
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return files.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
}

function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, MANIFEST_FILE), 'utf8')) as Manifest;
}

/** The base's packed weights under a second name in the same folder: a graph's constants may not lie elsewhere. */
function linkData({ model }: MergeMaterial, folder: string): void {
  const link = join(folder, basename(model.dataPath));
  if (!existsSync(link)) linkSync(model.dataPath, link);
}

function foldedWeights({ base, model, layers }: MergeMaterial): GraphWeights {
  const weights = model.weights();
  const constants = foldedConstants(base.manifest.architecture, layers);
  const names = new Set(constants.map(({ name }) => name));
  return {
    packs: (name) => weights.packs(name),
    native: weights.native,
    hasVector: (name) => names.has(name) || weights.hasVector(name),
    declare(graph) {
      weights.declare(graph);
      for (const { name, values, shape } of constants) graph.constant(name, values, shape);
    },
  };
}

function writeFolded(material: MergeMaterial, path: string): void {
  const { architecture } = material.base.manifest;
  linkData(material, join(path, '..'));
  writeFileSync(path, drawServingGraph(architecture, foldedWeights(material), BASE_VARIANT).encode());
}

/** With the adapter's own activations: those that its merged weights will meet. */
async function gatherStatistics(
  material: MergeMaterial,
  folder: string,
): Promise<ReadonlyMap<string, InputStatistics>> {
  const { runtime, base, threads, prompts } = material;
  const { architecture } = base.manifest;
  const path = join(folder, 'activations.onnx');
  linkData(material, folder);
  writeActivationGraph(architecture, foldedWeights(material), path);
  const session = await CompiledModel.load(runtime, path, threads);
  try {
    const table = base.readEmbeddingTable();
    const embeds = prompts.map((tokens) => {
      const rows = new Float32Array(tokens.length * architecture.hiddenSize);
      table.lookup(tokens, rows);
      return rows;
    });
    return await inputStatistics(runtime, session, architecture, embeds);
  } finally {
    session.dispose();
    rmSync(path);
    rmSync(join(folder, basename(material.model.dataPath)));
  }
}
