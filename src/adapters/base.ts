// What reading an adapter needs to know of the base model: its sizes, its identity, and the few weights that some methods depend on.

import { type Architecture, type Projection, projectionPath } from '../model/architecture.js';
import type { Artifact } from '../model/artifact-reader.js';
import type { StoredMatrix } from '../model/stored-matrix.js';

export interface AdapterBase {
  readonly architecture: Architecture;
  /** sha256 of the base's weights; registrations are kept apart by it. */
  readonly baseHash: string;
  /** sha256 of its chat template, null where it has none; where absent, adapters are not checked against it. */
  readonly chatTemplateHash?: string | null;
  /** As listed in /v1/models; no adapter may take it. */
  readonly name: string;
  /** A projection's matrix [out, in] as it is served (dequantized by the row); named as in the manifest: `layers.0.self_attn.q_proj`. */
  matrix(name: string): StoredMatrix;
  /** A projection's bias [out], or null where it has none; the same names as matrix(). */
  bias(name: string): Float32Array | null;
}

/** The base as a converted model holds it. `chatTemplateHash` is the tokenizer's. */
export function adapterBase(artifact: Artifact, chatTemplateHash?: string | null): AdapterBase {
  const { architecture, baseHash, name, vectors } = artifact.manifest;
  return {
    architecture,
    baseHash,
    ...(chatTemplateHash === undefined ? {} : { chatTemplateHash }),
    name,
    matrix: (matrix) => artifact.openMatrix(matrix),
    bias: (matrix) => (vectors[`${matrix}.bias`] ? artifact.readVector(`${matrix}.bias`) : null),
  };
}

/** One of the seven projections of one block. */
export interface Site {
  readonly layer: number;
  readonly projection: Projection;
  /** The module's path as PEFT sees it: `model.layers.0.self_attn.q_proj`. */
  readonly module: string;
  /** Its name in the manifest: `layers.0.self_attn.q_proj`. */
  readonly weightName: string;
}

export function site(layer: number, projection: Projection): Site {
  const weightName = `layers.${layer}.${projectionPath(projection)}`;
  return { layer, projection, module: `model.${weightName}`, weightName };
}
