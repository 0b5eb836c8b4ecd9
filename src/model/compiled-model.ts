// Sessions of a converted base. The first start packs the weights for this processor and saves them; later starts, and every
// variant of the graph, map that one file. Variants are made when first asked for.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, join } from 'node:path';
import { decodeInitializers, encodeModel, externalData } from '../graph/onnx.js';
import { GraphBuilder } from '../graph/builder.js';
import type { Runtime } from '../runtime/runtime.js';
import type { Session } from '../runtime/session.js';
import type { Manifest } from './artifact.js';
import { renameDurably, syncFile, syncFolder } from './durable-files.js';
import { relocate, type SavedModel } from './packed-relocation.js';
import type { PackedMatrix } from './projection-group.js';
import { relativeDifference, trialLogits } from './trial-run.js';
import { nativeHalf } from './native-layout.js';
import { graphWeights, packLayout, packWeights } from './packed-weights.js';
import {
  BASE_VARIANT,
  buildServingGraph,
  variantName,
  type GraphVariant,
  type GraphWeights,
} from './serving-graph.js';

/** A model without nodes: the constants. */
const PACKED_FILE = 'packed.onnx';
const DATA_FILE = 'packed.data';
/** Counts the changes of what this file writes. */
const COMPILED_VERSION = 4;
/** Of root mean squares; folded minima meet sums of quantized x, not of x, which is as far apart as 8-bit activations are anyway. */
const MAX_TRIAL_DIFFERENCE = 0.3;
const SPIN_MICROSECONDS = '500';
/** Smaller constants (shapes) stay inside the model. */
const MIN_EXTERNAL_BYTES = '256';

export class CompiledModel {
  readonly #runtime: Runtime;
  readonly #manifest: Manifest;
  readonly #folder: string;
  readonly #threads: number;
  readonly #sessions = new Map<string, Promise<Session>>();
  #weights: GraphWeights | null = null;

  private constructor(runtime: Runtime, manifest: Manifest, folder: string, threads: number) {
    this.#runtime = runtime;
    this.#manifest = manifest;
    this.#folder = folder;
    this.#threads = threads;
  }

  /**
   * `artifactFolder` is where `manifest` was read from. Compiles on the first call for this processor (seconds), and begins to load the
   * session for batches without adapters.
   */
  static async open(
    runtime: Runtime,
    artifactFolder: string,
    manifest: Manifest,
    threads: number,
  ): Promise<CompiledModel> {
    const native = runtime.hasNativeKernels;
    const folder = join(artifactFolder, `compiled-${COMPILED_VERSION}-${native ? 'native' : processorKey()}`);
    if (!existsSync(folder))
      await writeWhole(folder, async (into) =>
        native
          ? layOutInto(artifactFolder, manifest, into)
          : compileInto(runtime, artifactFolder, manifest, into),
      );
    const model = new CompiledModel(runtime, manifest, folder, threads);
    // Loads while the caller prepares the rest.
    void model.session(BASE_VARIANT);
    return model;
  }

  /** The session of a graph variant; the first call loads it (a fraction of a second, on a thread of its own). */
  session(variant: GraphVariant): Promise<Session> {
    const name = variantName(variant);
    let session = this.#sessions.get(name);
    if (session === undefined) {
      session = this.#load(variant);
      this.#sessions.set(name, session);
      // A load that failed is tried again by the next call.
      session.catch(() => this.#sessions.delete(name));
    }
    return session;
  }

  /** A session of a graph file as these models load theirs. */
  static load(runtime: Runtime, path: string, threads: number): Promise<Session> {
    return runtime.session(path, {
      threads,
      config: { 'session.intra_op.spin_duration_us': SPIN_MICROSECONDS },
    });
  }

  /** The constants of every variant, which refer to the file `dataPath` by its name. */
  weights(): GraphWeights {
    return (this.#weights ??= packedWeights(this.#folder, this.#manifest, this.#runtime.hasNativeKernels));
  }

  get dataPath(): string {
    return join(this.#folder, DATA_FILE);
  }

  async dispose(): Promise<void> {
    for (const session of await Promise.allSettled(this.#sessions.values()))
      if (session.status === 'fulfilled') session.value.dispose();
    this.#sessions.clear();
  }

  async #load(variant: GraphVariant): Promise<Session> {
    const path = join(this.#folder, `${variantName(variant)}.onnx`);
    if (!existsSync(path)) await this.#write(variant, path);
    return CompiledModel.load(this.#runtime, path, this.#threads);
  }

  async #write(variant: GraphVariant, path: string): Promise<void> {
    const temporary = `${path}.tmp-${process.pid}`;
    writeFileSync(temporary, buildServingGraph(this.#manifest.architecture, this.weights(), variant));
    await syncFile(temporary);
    await renameDurably(temporary, path);
  }
}

/** The constants that packing saved; packs whose minima were folded into their weights have none. */
function packedWeights(folder: string, manifest: Manifest, native: boolean): GraphWeights {
  const constants = decodeInitializers(readFileSync(join(folder, PACKED_FILE)));
  const byName = new Map(constants.map((constant) => [constant.name, constant]));
  const names = new Set(byName.keys());
  const stored = (matrix: PackedMatrix): PackedMatrix => {
    const packed = byName.get(`${matrix.name}.packed`);
    if (packed === undefined)
      return names.has(`${matrix.name}.minima`) ? matrix : { ...matrix, minimaBlockSize: null };
    return { ...matrix, native: { half: nativeHalf(matrix, Number(externalData(packed).get('length'))) } };
  };
  const layout = [...packLayout(manifest)].map(
    ([name, packs]) => [name, packs.map(({ matrix }) => stored(matrix))] as const,
  );
  return graphWeights(
    new Map(layout),
    native,
    (graph) => constants.forEach((constant) => graph.add(constant)),
    names,
  );
}

async function writeWhole(folder: string, write: (folder: string) => Promise<void>): Promise<void> {
  const temporary = `${folder}.tmp-${process.pid}`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  try {
    await write(temporary);
    await syncFolder(temporary);
    await renameDurably(temporary, folder);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** For the native kernels: the layout is the project's own, and the same on every processor. */
function layOutInto(artifactFolder: string, manifest: Manifest, folder: string): void {
  const constants = new GraphBuilder();
  packWeights(artifactFolder, manifest, join(folder, DATA_FILE), true).declare(constants);
  writeFileSync(join(folder, PACKED_FILE), constants.encode());
}

async function compileInto(
  runtime: Runtime,
  artifactFolder: string,
  manifest: Manifest,
  folder: string,
): Promise<void> {
  const source = { model: join(folder, 'source.onnx'), data: join(folder, 'source.data') };
  const saved = { model: join(folder, 'saved.onnx'), data: join(folder, 'saved.data') };
  const weights = packWeights(artifactFolder, manifest, source.data, false);
  writeFileSync(source.model, buildServingGraph(manifest.architecture, weights, BASE_VARIANT));
  const reference = await runtime.session(source.model, {
    threads: 1,
    saveOptimizedTo: saved.model,
    config: {
      'session.save_external_prepacked_constant_initializers': '1',
      'session.optimized_model_external_initializers_file_name': basename(saved.data),
      'session.optimized_model_external_initializers_min_size_in_bytes': MIN_EXTERNAL_BYTES,
    },
  });
  try {
    writePacked(saved, folder, manifest, true);
    if (!(await computesAlike(runtime, reference, folder, manifest)))
      writePacked(saved, folder, manifest, false);
  } finally {
    reference.dispose();
  }
  for (const file of [source.model, source.data, saved.model, saved.data]) rmSync(file);
}

function writePacked(saved: SavedModel, folder: string, manifest: Manifest, fold: boolean): void {
  const packs = [...packLayout(manifest).values()].flat().map(({ matrix }) => matrix);
  const initializers = relocate(saved, join(folder, DATA_FILE), packs, fold);
  writeFileSync(join(folder, PACKED_FILE), encodeModel({ nodes: [], initializers, inputs: [], outputs: [] }));
}

/**
 * Whether the packed weights give what the graph gives that was packed from scratch. A lone row is not asked for: some processors'
 * kernel for it leaves the block sums out, which the engine finds out by itself (model-runner.ts).
 */
async function computesAlike(
  runtime: Runtime,
  reference: Session,
  folder: string,
  manifest: Manifest,
): Promise<boolean> {
  const { architecture } = manifest;
  const path = join(folder, 'trial.onnx');
  writeFileSync(path, buildServingGraph(architecture, packedWeights(folder, manifest, false), BASE_VARIANT));
  const session = await runtime.session(path, { threads: 1 });
  try {
    return [2, 3].every((numTokens) => {
      const [expected, actual] = [reference, session].map((each) =>
        trialLogits(runtime, each, architecture, numTokens),
      );
      return relativeDifference(expected!, actual!) < MAX_TRIAL_DIFFERENCE;
    });
  } finally {
    session.dispose();
    rmSync(path);
  }
}

/** Packed weights fit the instruction set that packed them. */
function processorKey(): string {
  const flags = existsSync('/proc/cpuinfo')
    ? (/^(?:flags|Features)\s*:.*$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[0] ?? '')
    : (cpus()[0]?.model ?? '');
  return createHash('sha256').update(`${process.arch} ${flags}`).digest('hex').slice(0, 12);
}
