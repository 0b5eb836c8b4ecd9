// One decoder block over B rows of S tokens, with a method's additions, drawn from operators that have derivatives.
//
// Inputs   x f32 [B*S, H]; cos, sin f32 [B, S, 1, D/2] of each token's position; mask f32 [B, 1, S, T], 0 where a token sees a key and
//          very negative elsewhere (T = prefix + S); the block's weights; dropout.{projection} u8 [B*S, in]; those of blockInputs().
// Output   y [B*S, H].

import { type Architecture, type Projection, projectionShape } from '../../model/architecture.js';
import type { BottleneckPlace } from '../../model/bottleneck-nodes.js';
import type { Expressions } from '../autodiff/expressions.js';
import { int } from '../../graph/builder.js';
import type { MatrixForm } from '../frozen-weights.js';
import type { BlockAdditions } from '../types.js';
import { blockInputs, blockNorms, hasBias } from './block-inputs.js';
import { frozenMatrix } from './dequantize.js';

export interface BlockSpec {
  readonly arch: Architecture;
  readonly additions: BlockAdditions;
  /** How the frozen matrices are held; null in full fine-tuning, where they are f32 inputs with gradients. */
  readonly forms: Readonly<Record<Projection, MatrixForm>> | null;
  readonly numRows: number;
  readonly numTokens: number;
  /** Whether LoRA's dropout masks are inputs. */
  readonly dropout: boolean;
}

const FLOAT = 1;

export interface DrawnBlock {
  readonly y: string;
  /**
   * Values that cost a product with a matrix or the attention, and from which the others follow cheaply: of each projection its output
   * and, with LoRA, x · aᵀ; and what the heads give. Their width is worked out by keptWidth (kept-values.ts).
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
    for (const table of ['cos', 'sin'])
      e.graph.input(table, 'f32', [numRows, numTokens, 1, arch.headDim / 2]);
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
    const q = e.reshape(this.#rotated(this.#heads(h, 'q_proj', numHeads), 'q_norm'), grouped);
    const k = this.#rotated(this.#heads(h, 'k_proj', numKvHeads), 'k_norm');
    const v = e.transpose(this.#heads(h, 'v_proj', numKvHeads), [0, 2, 1, 3]);
    const scores = e.matmul(q, this.#prefixed('prefix.k', k), {
      transB: true,
      alpha: 1 / Math.sqrt(headDim),
    });
    const keys = additions.numPrefixTokens + tokens;
    const masked = e.add(e.reshape(scores, [rows, numHeads, tokens, keys]), 'mask');
    const weights = e.reshape(e.op('Softmax', [masked], { axis: int(-1) }), e.shape(scores));
    const product = e.matmul(weights, this.#prefixed('prefix.v', v));
    this.products.push(product);
    const mixed = e.reshape(product, [rows, numHeads, tokens, headDim]);
    return this.#project(
      e.reshape(e.transpose(mixed, [0, 2, 1, 3]), [rows * tokens, numHeads * headDim]),
      'o_proj',
    );
  }

  mlp(h: string): string {
    const e = this.#e;
    return this.#project(
      e.mul(e.silu(this.#project(h, 'gate_proj')), this.#project(h, 'up_proj')),
      'down_proj',
    );
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

  /** [B, S, heads, D] */
  #heads(h: string, projection: Projection, heads: number): string {
    const { numRows, numTokens, arch } = this.#spec;
    return this.#e.reshape(this.#project(h, projection), [numRows, numTokens, heads, arch.headDim]);
  }

  /** Rotates pairs (i, i + D/2) by the position's angles; [B, S, heads, D] -> [B, heads, S, D]. */
  #rotated(heads: string, norm: string): string {
    const e = this.#e;
    const half = this.#spec.arch.headDim / 2;
    const [a, b] = e.split(this.#spec.arch.qkNorm ? this.norm(heads, norm) : heads, [half, half], 3);
    const parts = [e.sub(e.mul(a!, 'cos'), e.mul(b!, 'sin')), e.add(e.mul(b!, 'cos'), e.mul(a!, 'sin'))];
    return e.transpose(e.concat(parts, 3), [0, 2, 1, 3]);
  }

  /** The prefix's keys or values before those of every row; [B, kvHeads, T, D]. */
  #prefixed(prefix: string, own: string): string {
    const { additions, arch, numRows } = this.#spec;
    const { numPrefixTokens } = additions;
    if (numPrefixTokens === 0) return own;
    const shape = [numRows, arch.numKvHeads, numPrefixTokens, arch.headDim];
    return this.#e.concat([this.#e.expand(prefix, shape), own], 2);
  }

  /** x · Wᵀ with bias and additions; [B*S, in] -> [B*S, out]. */
  #project(x: string, projection: Projection): string {
    const e = this.#e;
    const { arch, additions } = this.#spec;
    let y = e.matmul(x, this.#weight(projection), { transB: true });
    if (hasBias(arch, projection)) y = e.add(y, this.#ownBias(projection));
    const lora = additions.lora[projection];
    if (lora) {
      const kept = this.#dropped(x, projection, lora.dropout);
      const low = e.matmul(kept.x, `lora.${projection}.a`, { transB: true });
      this.products.push(low);
      y = e.add(y, e.matmul(low, `lora.${projection}.b`, { transB: true, alpha: lora.scale * kept.gain }));
    }
    if (additions.biases.includes(projection)) y = e.add(y, `bias.${projection}`);
    this.products.push(y);
    return y;
  }

  #weight(projection: Projection): string {
    const { arch, forms } = this.#spec;
    if (forms === null) return `weight.${projection}`;
    return frozenMatrix(
      this.#e,
      `weight.${projection}`,
      forms[projection],
      projectionShape(arch, projection),
    );
  }

  #ownBias(projection: Projection): string {
    const { arch, additions } = this.#spec;
    if (additions.full) return `bias.${projection}`;
    return this.#e.graph.input(
      `base_bias.${projection}`,
      'f32',
      projectionShape(arch, projection).slice(0, 1),
    );
  }

  /** Each value zero or kept, and the factor that keeps the expectation. */
  #dropped(
    x: string,
    projection: Projection,
    dropout: number,
  ): { readonly x: string; readonly gain: number } {
    if (!this.#spec.dropout || dropout === 0) return { x, gain: 1 };
    const e = this.#e;
    const mask = e.graph.input(`dropout.${projection}`, 'u8', e.shape(x));
    return { x: e.mul(x, e.op('Cast', [mask], { to: int(FLOAT) })), gain: 1 / (1 - dropout) };
  }
}
