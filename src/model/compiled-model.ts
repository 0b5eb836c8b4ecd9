// Sessions of a converted base. The first start packs the weights for this processor and saves them; later starts, and every
// variant of the graph, map that one file. Variants are made when first asked for.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, join } from 'node:path';
import { decodeInitializers, encodeModel } from '../graph/onnx.js';
import type { Runtime } from '../runtime/runtime.js';
import type { Session } from '../runtime/session.js';
import type { Manifest } from './artifact.js';
import { relocate } from './packed-relocation.js';
import { graphWeights, packLayout, packWeights } from './packed-weights.js';
import { buildServingGraph, variantName, type GraphVariant, type GraphWeights } from './serving-graph.js';

const PLAIN: GraphVariant = { lora: 'none', affine: false };
/** A model without nodes: the constants. */
const PACKED_FILE = 'packed.onnx';
const DATA_FILE = 'packed.data';
/** Counts the changes of what this file writes. */
const COMPILED_VERSION = 1;
const SPIN_MICROSECONDS = '500';

export class CompiledModel {
  readonly #runtime: Runtime;
  readonly #manifest: Manifest;
  readonly #folder: string;
  readonly #threads: number;
  readonly #sessions = new Map<string, Session>();
  #weights: GraphWeights | null = null;

  private constructor(runtime: Runtime, manifest: Manifest, folder: string, threads: number) {
    this.#runtime = runtime;
    this.#manifest = manifest;
    this.#folder = folder;
    this.#threads = threads;
  }

  /** `artifactFolder` is where `manifest` was read from. Compiles on the first call for this processor (seconds). */
  static open(runtime: Runtime, artifactFolder: string, manifest: Manifest, threads: number): CompiledModel {
    const folder = join(artifactFolder, `compiled-${COMPILED_VERSION}-${processorKey()}`);
    if (!existsSync(folder)) compile(runtime, artifactFolder, manifest, folder);
    return new CompiledModel(runtime, manifest, folder, threads);
  }

  /** The session of a graph variant; loads it on the first call (a fraction of a second, blocking). */
  session(variant: GraphVariant): Session {
    const name = variantName(variant);
    let session = this.#sessions.get(name);
    if (session === undefined) {
      session = this.#runtime.session(this.#modelPath(variant), {
        threads: this.#threads,
        config: { 'session.intra_op.spin_duration_us': SPIN_MICROSECONDS },
      });
      this.#sessions.set(name, session);
    }
    return session;
  }

  dispose(): void {
    for (const session of this.#sessions.values()) session.dispose();
    this.#sessions.clear();
  }

  #modelPath(variant: GraphVariant): string {
    const path = join(this.#folder, `${variantName(variant)}.onnx`);
    if (!existsSync(path)) {
      this.#weights ??= packedWeights(this.#folder, this.#manifest);
      const model = buildServingGraph(this.#manifest.architecture, this.#weights, variant);
      writeFileSync(`${path}.tmp`, model);
      renameSync(`${path}.tmp`, path);
    }
    return path;
  }
}

function packedWeights(folder: string, manifest: Manifest): GraphWeights {
  const constants = decodeInitializers(readFileSync(join(folder, PACKED_FILE)));
  return graphWeights(
    packLayout(manifest),
    (graph) => constants.forEach((constant) => graph.add(constant)),
    new Set(constants.map(({ name }) => name)),
  );
}

function compile(runtime: Runtime, artifactFolder: string, manifest: Manifest, folder: string): void {
  const temporary = `${folder}.tmp-${process.pid}`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  const source = { model: join(temporary, 'source.onnx'), data: join(temporary, 'source.data') };
  const saved = { model: join(temporary, 'saved.onnx'), data: join(temporary, 'saved.data') };
  const weights = packWeights(artifactFolder, manifest, source.data);
  writeFileSync(source.model, buildServingGraph(manifest.architecture, weights, PLAIN));
  runtime
    .session(source.model, {
      threads: 1,
      saveOptimizedTo: saved.model,
      config: {
        'session.save_external_prepacked_constant_initializers': '1',
        'session.optimized_model_external_initializers_file_name': basename(saved.data),
        'session.optimized_model_external_initializers_min_size_in_bytes': '1024',
      },
    })
    .dispose();
  const constants = relocate(saved, join(temporary, DATA_FILE), manifest);
  writeFileSync(
    join(temporary, PACKED_FILE),
    encodeModel({ nodes: [], initializers: constants, inputs: [], outputs: [] }),
  );
  for (const file of Object.values({ ...source, saved: saved.model, savedData: saved.data })) rmSync(file);
  renameSync(temporary, folder);
}

/** Packed weights fit the instruction set that packed them. */
function processorKey(): string {
  const flags = existsSync('/proc/cpuinfo')
    ? (/^(?:flags|Features)\s*:.*$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[0] ?? '')
    : (cpus()[0]?.model ?? '');
  return createHash('sha256').update(`${process.arch} ${flags}`).digest('hex').slice(0, 12);
}
