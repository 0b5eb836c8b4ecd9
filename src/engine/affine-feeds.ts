// The per-row scales and biases of a run (DoRA, IA3, trained biases): `affine.{group}.out_scale`, `.bias`, `.in_scale`, [B, 1, size].
// Rebuilt only when the rows' adapters change.

import type { AffineDelta, LoraAdapter } from '../adapters/types.js';
import type { Architecture } from '../model/architecture.js';
import { groupShape } from '../model/group-shape.js';
import { GROUP_NAMES, GROUPS, type GroupName } from '../model/projection-group.js';
import type { Runtime } from '../runtime/runtime.js';
import type { NamedTensor } from './bank-feeds.js';

type Field = keyof AffineDelta;

export class AffineFeeds {
  readonly #runtime: Runtime;
  readonly #arch: Architecture;
  #key = '';
  #inputs: readonly NamedTensor[] = [];

  constructor(runtime: Runtime, arch: Architecture) {
    this.#runtime = runtime;
    this.#arch = arch;
  }

  /** Owned by this object, valid until the next call; null where no row has scales or biases. */
  prepare(rows: readonly (LoraAdapter | null)[]): readonly NamedTensor[] | null {
    const affine = rows.map((adapter) => (adapter?.hasAffine === true ? adapter : null));
    if (affine.every((adapter) => adapter === null)) return null;
    const key = affine.map((adapter) => adapter?.hash ?? '').join(',');
    if (key !== this.#key) {
      this.dispose();
      this.#inputs = this.#build(affine);
      this.#key = key;
    }
    return this.#inputs;
  }

  dispose(): void {
    for (const [, tensor] of this.#inputs) tensor.dispose();
    this.#inputs = [];
    this.#key = '';
  }

  #build(rows: readonly (LoraAdapter | null)[]): NamedTensor[] {
    const inputs: NamedTensor[] = [];
    for (let layer = 0; layer < this.#arch.numLayers; layer++) {
      for (const group of GROUP_NAMES) {
        const { name, inputSize, outputSizes } = groupShape(this.#arch, layer, group);
        const add = (suffix: string, field: Field, sizes: readonly number[], neutral: number): void => {
          const values = rowValues(rows, layer, group, field, sizes, neutral);
          const tensor = this.#runtime.tensor(values, [rows.length, 1, values.length / rows.length]);
          inputs.push([`affine.${name}.${suffix}`, tensor]);
        };
        add('out_scale', 'outScale', outputSizes, 1);
        add('bias', 'bias', outputSizes, 0);
        if (outputSizes.length === 1) add('in_scale', 'inScale', [inputSize], 1);
      }
    }
    return inputs;
  }
}

/** [rows, sum of sizes]: each row's vectors of the group's projections side by side, `neutral` where it has none. */
function rowValues(
  rows: readonly (LoraAdapter | null)[],
  layer: number,
  group: GroupName,
  field: Field,
  sizes: readonly number[],
  neutral: number,
): Float32Array {
  const width = sizes.reduce((sum, size) => sum + size, 0);
  const values = new Float32Array(rows.length * width).fill(neutral);
  rows.forEach((adapter, row) => {
    let at = row * width;
    GROUPS[group].forEach((projection, part) => {
      const vector = adapter?.layers[layer]?.affine[projection]?.[field];
      if (vector) values.set(vector, at);
      at += sizes[part]!;
    });
  });
  return values;
}
