// The graph that serves: B rows of S tokens each, K/V written in place in buffers that the caller owns.
//
// Inputs   embeds f32 [B,S,H] (embedding rows), seqlens_k i32 [B] (tokens in the row after this run, minus one),
//          total_len i32 [] (the longest row's tokens after this run), logit_rows i64 [n] (rows of [B*S] whose logits are wanted),
//          cos, sin f32 [context, D/2], past.{l}.k/v f32 [B, kvHeads, context, D], and the adapters' (adapter-*.ts, bottleneck-nodes.ts).
// Outputs  logits f32 [n, V], present.{l}.k/v: the same buffers as past.
// GroupQueryAttention takes S > 1 with earlier tokens only for B = 1; a first prompt batch may be padded on the right.

import { float, GraphBuilder, int, MICROSOFT, NATIVE } from '../graph/builder.js';
import type { Architecture } from './architecture.js';
import { addAffine, addLora, scaleInput, type GroupShape } from './adapter-nodes.js';
import { declareRouting, type BankForm } from './adapter-routing.js';
import { addBottleneck, type BottleneckPlace } from './bottleneck-nodes.js';
import {
  GROUPS,
  multiply,
  rmsNorm,
  skipRmsNorm,
  type GroupName,
  type PackedMatrix,
} from './projection-group.js';
import { groupShape } from './group-shape.js';
import { foldInput, foldOutput } from './merged/folded-adapter.js';

export interface GraphVariant {
  readonly lora: BankForm;
  readonly bottleneck: BankForm;
  /** Per-row scales and biases (DoRA, IA3, trained biases). */
  readonly affine: boolean;
}

/** The constants of a graph: how its matrices are stored, and how to declare one. */
export interface GraphWeights {
  /** The stacked matrices of a group (`layers.0.qkv`) or of `lm_head`. */
  packs(name: string): readonly PackedMatrix[];
  /** Whether the graph is drawn with the native operators where they apply. */
  readonly native: boolean;
  hasVector(name: string): boolean;
  /** Declares every constant in the graph; names as PackedMatrix and Manifest.vectors say. */
  declare(graph: GraphBuilder): void;
}

/** Without anything of adapters. */
export const BASE_VARIANT: GraphVariant = { lora: 'none', bottleneck: 'none', affine: false };

export function variantName({ lora, bottleneck, affine }: GraphVariant): string {
  return `${lora}${affine ? '-affine' : ''}${bottleneck === 'none' ? '' : `-bottleneck-${bottleneck}`}`;
}

/** Whether a constant is made with the graph's nodes rather than by GraphWeights. */
export function isGraphConstant(name: string): boolean {
  return GRAPH_CONSTANTS.test(name);
}

/** Head sizes that the native attention takes. */
const NATIVE_HEAD_MULTIPLE = 16;

const GRAPH_CONSTANTS = /^(to_heads|from_heads|flat_hidden|layers\.\d+\.qkv_sizes)$/;

/** Encoded ONNX model. */
export function buildServingGraph(
  arch: Architecture,
  weights: GraphWeights,
  variant: GraphVariant,
): Uint8Array {
  return drawServingGraph(arch, weights, variant).encode();
}

/** The same, open for further nodes. */
export function drawServingGraph(
  arch: Architecture,
  weights: GraphWeights,
  variant: GraphVariant,
): GraphBuilder {
  const graph = new GraphBuilder();
  weights.declare(graph);
  declareInputs(graph);
  declareRouting(graph, 'lora', variant.lora);
  declareRouting(graph, 'bottleneck', variant.bottleneck);
  if (arch.qkNorm) {
    graph.constant('to_heads', BigInt64Array.of(0n, 0n, -1n, BigInt(arch.headDim)), [4]);
    graph.constant('from_heads', BigInt64Array.of(0n, 0n, -1n), [3]);
  }
  new BlockWriter(graph, arch, weights, variant).writeAll();
  return graph;
}

function declareInputs(graph: GraphBuilder): void {
  graph.input('seqlens_k', 'i32', ['B']);
  graph.input('total_len', 'i32', []);
  graph.input('logit_rows', 'i64', ['n']);
}

class BlockWriter {
  readonly #graph: GraphBuilder;
  readonly #arch: Architecture;
  readonly #weights: GraphWeights;
  readonly #variant: GraphVariant;

  constructor(graph: GraphBuilder, arch: Architecture, weights: GraphWeights, variant: GraphVariant) {
    this.#graph = graph;
    this.#arch = arch;
    this.#weights = weights;
    this.#variant = variant;
  }

  writeAll(): void {
    const { hiddenSize, headDim, numLayers, rmsNormEps: eps, vocabSize } = this.#arch;
    const graph = this.#graph;
    graph.input('cos', 'f32', ['T', headDim / 2]);
    graph.input('sin', 'f32', ['T', headDim / 2]);
    let residual = graph.input('embeds', 'f32', ['B', 'S', hiddenSize]);
    let normed = rmsNorm(graph, 'layers.0.h', residual, 'layers.0.input_layernorm', eps);
    for (let layer = 0; layer < numLayers; layer++) {
      const last = layer === numLayers - 1;
      const nextNorm = last ? 'norm' : `layers.${layer + 1}.input_layernorm`;
      const attention = this.#attention(layer, normed);
      const [h, sum] = skipRmsNorm(
        graph,
        `layers.${layer}.h2`,
        residual,
        attention,
        `layers.${layer}.post_attention_layernorm`,
        eps,
      );
      [normed, residual] = skipRmsNorm(graph, `layers.${layer}.out`, sum, this.#mlp(layer, h), nextNorm, eps);
    }
    graph.constant('flat_hidden', BigInt64Array.of(-1n, BigInt(hiddenSize)), [2]);
    const flat = graph.node('Reshape', 'hidden', [normed, 'flat_hidden']);
    const wanted = graph.node('Gather', 'hidden_rows', [flat, 'logit_rows'], { axis: int(0) });
    graph.node('Identity', 'logits', [multiply(graph, wanted, 'lm_head', this.#weights.packs('lm_head'))]);
    graph.output('logits', 'f32', ['n', vocabSize]);
  }

  #attention(layer: number, x: string): string {
    const { numHeads, numKvHeads, headDim, slidingWindow } = this.#arch;
    const graph = this.#graph;
    const name = `layers.${layer}`;
    const qkv = this.#project(layer, 'qkv', x);
    const [query, key, value] = this.#arch.qkNorm ? this.#normedHeads(layer, qkv) : [qkv, '', ''];
    const cache = ['B', numKvHeads, 'T', headDim];
    const past = ['k', 'v'].map((kv) => graph.input(`past.${layer}.${kv}`, 'f32', cache));
    for (const kv of ['k', 'v']) graph.output(`present.${layer}.${kv}`, 'f32', cache);
    const native = this.#weights.native && headDim % NATIVE_HEAD_MULTIPLE === 0;
    const lengths = native ? ['seqlens_k'] : ['seqlens_k', 'total_len'];
    graph.nodes.push({
      op: native ? 'CachedAttention' : 'GroupQueryAttention',
      domain: native ? NATIVE : MICROSOFT,
      name: `${name}.attention`,
      inputs: [query!, key!, value!, ...past, ...lengths, 'cos', 'sin'],
      outputs: [`${name}.attention`, `present.${layer}.k`, `present.${layer}.v`],
      attributes: {
        num_heads: int(numHeads),
        kv_num_heads: int(numKvHeads),
        ...(native ? {} : { do_rotary: int(1), rotary_interleaved: int(0) }),
        ...(slidingWindow === null ? {} : { local_window_size: int(slidingWindow) }),
      },
    });
    const output = this.#project(layer, 'o', `${name}.attention`);
    return this.#bottleneck(layer, 'attention', output);
  }

  /** q and k with each head's RMS norm applied, and v. */
  #normedHeads(layer: number, qkv: string): string[] {
    const graph = this.#graph;
    const name = `layers.${layer}`;
    const { numHeads, numKvHeads, headDim, rmsNormEps } = this.#arch;
    const sizes = BigInt64Array.of(
      BigInt(numHeads * headDim),
      BigInt(numKvHeads * headDim),
      BigInt(numKvHeads * headDim),
    );
    const split = graph.constant(`${name}.qkv_sizes`, sizes, [3]);
    const parts = graph.nodeN('Split', `${name}.qkv_part`, [qkv, split], [0, 1, 2], { axis: int(-1) });
    const normed = ['q', 'k'].map((head, i) => {
      const heads = graph.node('Reshape', `${name}.${head}_heads`, [parts[i]!, 'to_heads']);
      const out = rmsNorm(
        graph,
        `${name}.${head}_normed`,
        heads,
        `${name}.self_attn.${head}_norm`,
        rmsNormEps,
      );
      return graph.node('Reshape', `${name}.${head}`, [out, 'from_heads']);
    });
    return [...normed, parts[2]!];
  }

  #mlp(layer: number, x: string): string {
    const gated = this.#siluGated(`layers.${layer}`, this.#project(layer, 'gate_up', x));
    return this.#bottleneck(layer, 'mlp', this.#project(layer, 'down', gated));
  }

  /** silu(gate) * up. */
  #siluGated(name: string, gateUp: string): string {
    const graph = this.#graph;
    if (this.#weights.native) return graph.node('SiluGated', `${name}.act`, [gateUp], {}, NATIVE);
    const halves = { axis: int(-1), num_outputs: int(2) };
    const [gate, up] = graph.nodeN('Split', `${name}.gate_up_part`, [gateUp], [0, 1], halves);
    const silu = graph.node('QuickGelu', `${name}.silu`, [gate!], { alpha: float(1) }, MICROSOFT);
    return graph.node('Mul', `${name}.act`, [silu, up!]);
  }

  #bottleneck(layer: number, place: BottleneckPlace, h: string): string {
    return addBottleneck(this.#graph, this.#variant.bottleneck, h, layer, place, this.#arch.hiddenSize);
  }

  #project(layer: number, groupName: GroupName, input: string): string {
    const graph = this.#graph;
    const group: GroupShape = groupShape(this.#arch, layer, groupName);
    const { affine, lora } = this.#variant;
    const folds = (name: string): boolean => this.#weights.hasVector(name);
    const scaled = affine && GROUPS[groupName].length === 1 ? scaleInput(graph, input, group) : input;
    const x = foldInput(graph, scaled, group, folds);
    let y = multiply(graph, x, group.name, this.#weights.packs(group.name));
    y = foldOutput(graph, x, y, group, folds);
    y = addLora(graph, lora, x, y, group);
    if (affine) y = addAffine(graph, y, group);
    const bias = `${group.name}.bias`;
    return this.#weights.hasVector(bias) ? graph.node('Add', `${group.name}.biased`, [y, bias]) : y;
  }
}
