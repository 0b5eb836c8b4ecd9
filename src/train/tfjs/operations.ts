// Every operator that the TensorFlow.js backend knows: one table op -> function, as the gradient rules are.

import { ELEMENTWISE } from './elementwise.js';
import { INDEXING } from './indexing.js';
import { nf4Product } from './nf4-product.js';
import type { Operation } from './operation.js';
import { PRODUCTS } from './products.js';
import { REDUCTIONS } from './reductions.js';
import { rotaryEmbedding } from './rotary-embedding.js';
import { SHAPING } from './shaping.js';

export const OPERATIONS: Readonly<Record<string, Operation>> = {
  ...ELEMENTWISE,
  ...REDUCTIONS,
  ...SHAPING,
  ...INDEXING,
  ...PRODUCTS,
  MatMulBnb4: nf4Product,
  RotaryEmbedding: rotaryEmbedding,
};
