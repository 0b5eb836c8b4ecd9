// Final norm, head and log-probability of the labels, on a chunk of n rows: the logits of a whole batch never exist.
//
// Inputs   h f32 [n, H], labels i64 [n], norm f32 [H], head f32 [V, H]; weights f32 [n, 1] where there are gradients of norm and head.
// Output   logprobs [n, 1].

import type { Architecture } from '../../model/architecture.js';
import { GraphBuilder } from '../../graph/builder.js';
import { differentiate } from '../autodiff/differentiate.js';
import { Expressions } from '../autodiff/expressions.js';
import type { Precision } from '../options.js';
import { frozenProduct } from './dequantize.js';
import { subgraph } from './subgraph.js';

/**
 * What is computed beside the log-probabilities. `rows`: d logprob / d h of each row [n, H]; since no row depends on another, the gradient of
 * any weighted sum is these rows times the weights. `all`: d(sum weights * logprobs) with respect to h, norm and head.
 */
export type HeadGradients = 'none' | 'rows' | 'all';

export interface HeadGraph {
  readonly graph: GraphBuilder;
  readonly logprobs: string;
  /** Inputs -> the outputs that are their gradients. */
  readonly gradients: ReadonlyMap<string, string>;
}

/** `precision` is that of a frozen head; one that is trained has f32. */
export function headGraph(
  arch: Architecture,
  numRows: number,
  wanted: HeadGradients,
  precision: Precision,
): HeadGraph {
  const e = new Expressions(new GraphBuilder(), 'head');
  const logprobs = drawHead(e, arch, numRows, wanted === 'all' ? 'f32' : precision);
  const inputs = { none: [], rows: ['h'], all: ['h', 'norm', 'head'] }[wanted];
  const weights =
    wanted === 'all'
      ? e.graph.input('weights', 'f32', [numRows, 1])
      : e.graph.constant('ones', new Float32Array(numRows).fill(1), [numRows, 1]);
  const names = differentiate(e.graph, new Map([[logprobs, weights]]), inputs);
  const outputs = new Map([logprobs, ...names].map((name) => [name, e.shape(name)]));
  return {
    graph: subgraph(e.graph, outputs),
    logprobs,
    gradients: new Map(inputs.map((input, i) => [input, names[i]!])),
  };
}

function drawHead(e: Expressions, arch: Architecture, numRows: number, precision: Precision): string {
  const h = e.graph.input('h', 'f32', [numRows, arch.hiddenSize]);
  const labels = e.graph.input('labels', 'i64', [numRows]);
  const norm = e.graph.input('norm', 'f32', [arch.hiddenSize]);
  const head = e.graph.input('head', 'f32', [arch.vocabSize, arch.hiddenSize]);
  const normed = e.rmsNorm(h, norm, arch.rmsNormEps);
  const logits = frozenProduct(e, normed, head, precision);
  // The labels' logits once more, from factors rounded as those of the others, or a log-probability might be above 0.
  const rounded = (value: string): string => (precision === 'bf16' ? e.bfloat16(value) : value);
  const labelLogits = e.sum(e.mul(rounded(normed), rounded(e.op('Gather', [head, labels]))), [-1]);
  return e.sub(labelLogits, e.logSumExp(logits));
}
