// A bidirectional LSTM of several layers over one sequence, as PyTorch's nn.LSTM has it: names, gate order (input, forget, cell, output)
// and initial values are its own. Unrolled over the sequence.

import type { Expressions } from '../autodiff/expressions.js';
import { createParameter } from '../parameters.js';
import { uniform } from '../random-numbers.js';
import type { Parameter } from '../types.js';

export interface LstmShape {
  readonly name: string;
  readonly inputSize: number;
  readonly hidden: number;
  readonly numLayers: number;
}

const DIRECTIONS = ['', '_reverse'] as const;
type Direction = (typeof DIRECTIONS)[number];
const NUM_GATES = 4;

/** Of each layer and direction: weight_ih [4*hidden, in], weight_hh [4*hidden, hidden], bias_ih and bias_hh [4*hidden]. */
export function lstmParameters(
  { name, inputSize, hidden, numLayers }: LstmShape,
  ...key: readonly number[]
): readonly Parameter[] {
  const rows = NUM_GATES * hidden;
  const bound = 1 / Math.sqrt(hidden);
  return Array.from({ length: numLayers }, (_, layer) =>
    DIRECTIONS.map((direction, side) => {
      const make = (kind: string, shape: readonly number[], part: number): Parameter => {
        const size = shape.reduce((product, dim) => product * dim, 1);
        return createParameter(
          `${name}.${kind}_l${layer}${direction}`,
          shape,
          uniform(size, bound, ...key, layer, side, part),
          { decay: kind.startsWith('weight') },
        );
      };
      return [
        make('weight_ih', [rows, layer === 0 ? inputSize : 2 * hidden], 0),
        make('weight_hh', [rows, hidden], 1),
        make('bias_ih', [rows], 2),
        make('bias_hh', [rows], 3),
      ];
    }),
  ).flat(2);
}

/** [steps, in] -> [steps, 2*hidden]: both directions' states side by side. */
export function lstm(e: Expressions, x: string, shape: LstmShape): string {
  let sequence = x;
  for (let layer = 0; layer < shape.numLayers; layer++) {
    const states = DIRECTIONS.map((direction) => oneDirection(e, sequence, shape, layer, direction));
    sequence = e.concat(states, 1);
  }
  return sequence;
}

function oneDirection(
  e: Expressions,
  x: string,
  { name, hidden }: LstmShape,
  layer: number,
  direction: Direction,
): string {
  const parameter = (kind: string): string => `${name}.${kind}_l${layer}${direction}`;
  const numSteps = e.shape(x)[0]!;
  const biases = e.add(parameter('bias_ih'), parameter('bias_hh'));
  const inputs = e.add(e.matmul(x, parameter('weight_ih'), { transB: true }), biases);
  const ones = Array.from({ length: numSteps }, () => 1);
  const steps = numSteps === 1 ? [inputs] : e.split(inputs, ones, 0);
  const isReverse = direction === '_reverse';
  const states: string[] = [];
  let [state, cell] = [e.zeros([1, hidden]), e.zeros([1, hidden])];
  for (const step of isReverse ? steps.toReversed() : steps) {
    const gates = e.add(step, e.matmul(state, parameter('weight_hh'), { transB: true }));
    const [input, forget, candidate, output] = e.split(gates, Array<number>(NUM_GATES).fill(hidden), 1);
    cell = e.add(e.mul(e.sigmoid(forget!), cell), e.mul(e.sigmoid(input!), e.tanh(candidate!)));
    state = e.mul(e.sigmoid(output!), e.tanh(cell));
    states.push(state);
  }
  const inOrder = isReverse ? states.toReversed() : states;
  return inOrder.length === 1 ? inOrder[0]! : e.concat(inOrder, 0);
}
