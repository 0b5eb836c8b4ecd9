// Token ids to embedding rows, outside the graph: the table stays as it is stored, and only the rows asked for become f32.

import { assert } from '../errors.js';
import type { StoredMatrix } from './stored-matrix.js';

export class EmbeddingTable {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly #matrix: StoredMatrix;

  constructor(matrix: StoredMatrix) {
    this.#matrix = matrix;
    this.vocabSize = matrix.rows;
    this.hiddenSize = matrix.cols;
  }

  /** Writes hiddenSize floats a token to out, which must hold tokens.length * hiddenSize. Ids must be in [0, vocabSize). */
  lookup(tokens: ArrayLike<number>, out: Float32Array): void {
    const { hiddenSize, vocabSize } = this;
    assert(out.length >= tokens.length * hiddenSize, 'out is too short for the tokens');
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i]!;
      if (!(token >= 0 && token < vocabSize)) assert(false, `token ${token} is not in [0, ${vocabSize})`);
      this.#matrix.writeRow(token, out, i * hiddenSize);
    }
  }
}
