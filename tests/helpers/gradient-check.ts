// Compares the gradients of a drawn graph with central differences of the graph itself.
import assert from 'node:assert/strict';
import { GraphBuilder } from '../../src/graph/builder.js';
import { differentiate } from '../../src/train/autodiff/differentiate.js';
import { Expressions } from '../../src/train/autodiff/expressions.js';
import { product } from '../../src/train/autodiff/shapes.js';
import type { Backend, InputValue } from '../../src/train/types.js';

export interface CheckOptions {
  /** Inputs are drawn from [low, high). */
  readonly low?: number;
  readonly high?: number;
}

/** Checks d(sum y * dy)/d(input) for every element of every input. */
export async function checkGradients(
  backend: Backend,
  shapes: Readonly<Record<string, readonly number[]>>,
  draw: (e: Expressions, names: readonly string[]) => string,
  { low = -1, high = 1 }: CheckOptions = {},
): Promise<void> {
  const names = Object.keys(shapes);
  const graph = new GraphBuilder();
  const e = new Expressions(graph, 'f');
  for (const name of names) graph.input(name, 'f32', shapes[name]!);
  const y = draw(e, names);
  const shape = e.shape(y);
  const gradients = differentiate(graph, new Map([[y, graph.input('dy', 'f32', shape)]]), names);
  graph.output(y, 'f32', shape);
  for (const gradient of new Set(gradients))
    if (gradient !== 'dy') graph.output(gradient, 'f32', shapes[names[gradients.indexOf(gradient)]!]!);
  const random = sequence();
  const values = new Map<string, InputValue>(
    [...names, 'dy'].map((name) => {
      const of = name === 'dy' ? shape : shapes[name]!;
      const data = Float32Array.from({ length: product(of) }, () => low + (high - low) * random());
      return [name, { data, shape: of }];
    }),
  );
  const dy = values.get('dy')!.data as Float32Array;
  const executor = await backend.compile(graph);
  const wanted = new Map(graph.outputs.map((output) => [output.name, output.shape as readonly number[]]));
  const loss = async (): Promise<number> => {
    const result = (await executor.run(values, wanted)).get(y)!;
    return result.reduce((sum, value, i) => sum + value * dy[i]!, 0);
  };
  const results = await executor.run(values, wanted);
  for (const [i, name] of names.entries()) {
    const actual = gradients[i] === 'dy' ? dy : results.get(gradients[i]!)!;
    const expected = await centralDifferences(values.get(name)!.data as Float32Array, loss);
    assertClose(actual, expected, 2e-3, name);
  }
  executor.dispose();
}

/** d loss / d values[i] for each of `indices`; all by default. */
export async function centralDifferences(
  values: Float32Array,
  loss: () => Promise<number>,
  step = 1 / 128,
  indices: readonly number[] = Array.from(values, (_, i) => i),
): Promise<Float32Array> {
  const gradient = new Float32Array(indices.length);
  for (const [at, i] of indices.entries()) {
    const value = values[i]!;
    values[i] = value + step;
    const above = await loss();
    values[i] = value - step;
    const below = await loss();
    values[i] = value;
    gradient[at] = (above - below) / (2 * step);
  }
  return gradient;
}

/** `count` places spread over an array. */
export function spread(length: number, count: number): readonly number[] {
  const some = Math.min(length, count);
  return Array.from({ length: some }, (_, i) => Math.floor(((i + 0.5) * length) / some));
}

/** |actual - expected| <= tolerance * (largest |expected|, at least 1) everywhere. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  name: string,
): void {
  assert.equal(actual.length, expected.length, `${name}: lengths differ`);
  let largest = 1;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(expected[i]!));
  for (let i = 0; i < expected.length; i++)
    assert(
      Math.abs(actual[i]! - expected[i]!) <= tolerance * largest,
      `${name}[${i}] is ${actual[i]}, expected ${expected[i]} (largest ${largest})`,
    );
}

/** The same numbers in [0, 1) each time. */
export function sequence(seed = 1): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
