// One decoder block over B rows of S tokens, with a method's additions, drawn from operators that have derivatives.
//
// Inputs   x f32 [B*S, H]; cos, sin f32 [B*S, D/2] of each token's position; mask f32 [B, 1, S, T], 0 where a token sees a key and
//          very negative elsewhere (T = prefix + S); the block's weights; dropout.{projection} u8 [B*S, in]; those of blockInputs().
// Output   y [B*S, H].

import type { Architecture, Projection } from '../../model/architecture.js';
import type { BottleneckPlace } from '../../model/bottleneck-nodes.js';
import type { Expressions } from '../autodiff/expressions.js';
import { int } from '../../graph/builder.js';
import type { MatrixForm } from '../frozen-weights.js';
import type { Precision } from '../options.js';
import type { BlockAdditions } from '../types.js';
import { blockInputs, blockNorms } from './block-inputs.js';
import { project } from './projections.js';

export interface BlockSpec {
  readonly arch: Architecture;
  readonly additions: BlockAdditions;
  /** How the frozen matrices are held; null in full fine-tuning, where they are f32 inputs with gradients. */
  readonly forms: Readonly<Record<Projection, MatrixForm>> | null;
  /** Of the products with them. */
  readonly precision: Precision;
  readonly numRows: number;
  readonly numTokens: number;
  /** Whether LoRA's dropout masks are inputs. */
  readonly dropout: boolean;
}

export interface DrawnBlock {
  readonly y: string;
  /**
   * Values that cost a product with a matrix or the attention, and from which the others follow cheaply: of each projection its output
   * (q, k and v as the attention reads them) and, with LoRA, x · aᵀ; and what the heads give. Their width is worked out by keptWidth (kept-values.ts).
   */
  readonly products: readonly string[];
}

export function drawBlock(e: Expressions, spec: BlockSpec): DrawnBlock {
  const block = new BlockDrawing(e, spec);
  const x = e.graph.input('x', 'f32', [spec.numRows * spec.numTokens, spec.arch.hiddenSize]);
  const attended = e.add(x, block.bottleneck('attention', block.attention(block.norm(x, 'input_layernorm'))));
  const transformed = block.mlp(block.norm(attended, 'post_attention_layernorm'));
  return { y: e.add(attended, block.bottleneck('mlp', transformed)), products: block.products };
}

class BlockDrawing {
  readonly #e: Expressions;
  readonly #spec: BlockSpec;
  readonly products: string[] = [];

  constructor(e: Expressions, spec: BlockSpec) {
    this.#e = e;
    this.#spec = spec;
    const { arch, additions, numRows, numTokens } = spec;
    for (const [name, shape] of blockInputs(arch, additions)) e.graph.input(name, 'f32', shape);
    if (!additions.full)
      for (const [norm, size] of blockNorms(arch)) e.graph.input(`norm.${norm}`, 'f32', [size]);
    for (const table of ['cos', 'sin']) e.graph.input(table, 'f32', [numRows * numTokens, arch.headDim / 2]);
    e.graph.input('mask', 'f32', [numRows, 1, numTokens, additions.numPrefixTokens + numTokens]);
  }

  norm(x: string, name: string): string {
    return this.#e.rmsNorm(x, `norm.${name}`, this.#spec.arch.rmsNormEps);
  }

  attention(h: string): string {
    const e = this.#e;
    const { arch, numRows: rows, numTokens: tokens, additions } = this.#spec;
    const { numHeads, numKvHeads, headDim } = arch;
    const grouped = [rows, numKvHeads, (numHeads / numKvHeads) * tokens, headDim];
    const [ownQ, ownK, ownV] = this.#project(h, 'q_proj', 'k_proj', 'v_proj');
    const q = e.reshape(this.#rotated(this.#heads(ownQ!), 'q_norm'), grouped);
    const k = this.#rotated(this.#heads(ownK!), 'k_norm');
    const v = this.#kept(e.transpose(this.#heads(ownV!), [0, 2, 1, 3]));
    const scores = e.matmul(q, this.#prefixed('prefix.k', k), {
      transB: true,
      alpha: 1 / Math.sqrt(headDim),
    });
    const keys = additions.numPrefixTokens + tokens;
    const masked = e.add(e.reshape(scores, [rows, numHeads, tokens, keys]), 'mask');
    const weights = e.reshape(e.op('Softmax', [masked], { axis: int(-1) }), e.shape(scores));
    const product = this.#kept(e.matmul(weights, this.#prefixed('prefix.v', v)));
    const mixed = e.reshape(product, [rows, numHeads, tokens, headDim]);
    return this.#project(
      e.reshape(e.transpose(mixed, [0, 2, 1, 3]), [rows * tokens, numHeads * headDim]),
      'o_proj',
    )[0]!;
  }

  mlp(h: string): string {
    const e = this.#e;
    const [gate, up] = this.#project(h, 'gate_proj', 'up_proj');
    return this.#project(e.mul(e.silu(gate!), up!), 'down_proj')[0]!;
  }

  bottleneck(place: BottleneckPlace, h: string): string {
    if (this.#spec.additions.bottleneck === null) return h;
    const e = this.#e;
    const linear = (x: string, part: string): string =>
      e.add(
        e.matmul(x, `bottleneck.${place}.${part}.weight`, { transB: true }),
        `bottleneck.${place}.${part}.bias`,
      );
    return e.add(h, linear(e.silu(linear(h, 'down')), 'up'));
  }

  /** What the projections make of x, [B*S, in] -> [B*S, out] each. */
  #project(x: string, ...projections: readonly Projection[]): readonly string[] {
    const { outputs, lows } = project(this.#e, this.#spec, x, projections);
    this.products.push(...outputs, ...lows);
    return outputs;
  }

  /** [B, S, heads, D] */
  #heads(projected: string): string {
    const { numRows, numTokens, arch } = this.#spec;
    return this.#e.reshape(projected, [numRows, numTokens, -1, arch.headDim]);
  }

  /** Normed where the architecture does, and rotated by the position's angles; [B, S, heads, D] -> [B, heads, S, D]. */
  #rotated(heads: string, norm: string): string {
    const e = this.#e;
    const { arch, numRows, numTokens } = this.#spec;
    const normed = arch.qkNorm ? this.norm(heads, norm) : heads;
    const rotated = e.rotate(e.reshape(normed, [numRows, numTokens, -1]), 'cos', 'sin');
    const headsFirst = e.transpose(e.reshape(rotated, e.shape(heads)), [0, 2, 1, 3]);
    // The norm's gradient reads what it was made from, which is kept already.
    return arch.qkNorm ? headsFirst : this.#kept(headsFirst);
  }

  #kept(value: string): string {
    this.products.push(value);
    return value;
  }

  /** The prefix's keys or values before those of every row; [B, kvHeads, T, D]. */
  #prefixed(prefix: string, own: string): string {
    const { additions, arch, numRows } = this.#spec;
    const { numPrefixTokens } = additions;
    if (numPrefixTokens === 0) return own;
    const shape = [numRows, arch.numKvHeads, numPrefixTokens, arch.headDim];
    return this.#e.concat([this.#e.expand(prefix, shape), own], 2);
  }
}
