// Rotary tables against values computed apart from this code, from the formulas of transformers' modeling_rope_utils.py.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Architecture, RopeScaling } from '../../src/model/architecture.js';
import { ropeFrequencies, ropeTables } from '../../src/model/rope.js';
import { chosenScaling, parseRopeChoice, withScaling } from '../../src/model/rope-choice.js';
import { smallArchitecture } from '../helpers/architecture.js';

function arch(headDim: number, ropeTheta: number, ropeScaling: RopeScaling | null): Architecture {
  return smallArchitecture({
    hiddenSize: 4 * headDim,
    numLayers: 1,
    numKvHeads: 4,
    headDim,
    intermediateSize: 8,
    vocabSize: 8,
    contextLength: 64,
    ropeTheta,
    ropeScaling,
  });
}

function assertClose(actual: Iterable<number>, expected: readonly number[], tolerance = 1e-12): void {
  const values = [...actual];
  assert.equal(values.length, expected.length);
  values.forEach((value, i) =>
    assert.ok(
      Math.abs(value - expected[i]!) <= tolerance * Math.abs(expected[i]!),
      `[${i}]: ${value} is not ${expected[i]}`,
    ),
  );
}

describe('ropeFrequencies', () => {
  it('is a geometric series without scaling', () => {
    assertClose(ropeFrequencies(arch(8, 10000, null), 64), [1, 0.1, 0.01, 0.001]);
  });

  it('divides by the factor of linear scaling', () => {
    const scaling = { type: 'linear', factor: 4 } as const;
    assertClose(ropeFrequencies(arch(8, 10000, scaling), 64), [0.25, 0.025, 0.0025, 0.00025]);
  });

  it('divides each frequency by its own factor', () => {
    const scaling = { type: 'factors', factors: [1, 2, 4, 8] } as const;
    assertClose(ropeFrequencies(arch(8, 10000, scaling), 64), [1, 0.05, 0.0025, 0.000125]);
  });

  it('raises the base of dynamic scaling beyond the original context only', () => {
    const base = arch(8, 10000, { type: 'dynamic', factor: 2, originalContextLength: 32 });
    assertClose(ropeFrequencies(base, 16), [1, 0.1, 0.01, 0.001]);
    assertClose(ropeFrequencies(base, 32), [1, 0.1, 0.01, 0.001]);
    // base 10000 * (2 * 48 / 32 - 1) ^ (8 / 6)
    assertClose(ropeFrequencies(base, 48), [1, 0.07937005259840997, 0.006299605249474365, 0.0005]);
  });

  it('stretches, blends and keeps as llama3 scaling does (Llama 3.2)', () => {
    const scaling = {
      type: 'llama3',
      factor: 32,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalContextLength: 8192,
    } as const;
    const frequencies = ropeFrequencies(arch(64, 500000, scaling), 131072);
    assert.equal(frequencies.length, 32);
    assertClose(
      LLAMA32.map(([pair]) => frequencies[pair]!),
      LLAMA32.map(([, value]) => value),
    );
  });

  it('ramps as yarn does', () => {
    const yarn = { type: 'yarn', factor: 4, betaFast: 32, betaSlow: 1, attentionFactor: 1 } as const;
    const tiny = arch(16, 10000, { ...yarn, originalContextLength: 64 });
    assertClose(
      ropeFrequencies(tiny, 256),
      [
        1, 0.23717082451262847, 0.05, 0.007905694150420948, 0.0025, 0.0007905694150420948, 0.00025,
        7.905694150420948e-5,
      ],
    );
    const qwen = ropeFrequencies(arch(128, 1e6, { ...yarn, originalContextLength: 32768 }), 131072);
    assertClose(
      [20, 26, 32, 38, 44].map((pair) => qwen[pair]!),
      [
        0.01333521432163324, 0.003168422574711092, 0.0006029411764705882, 9.262301704129457e-5,
        1.8747355233311396e-5,
      ],
    );
  });
});

describe('ropeTables', () => {
  it('holds cos and sin of position times frequency, position by position', () => {
    const { cos, sin } = ropeTables(arch(4, 10000, null), 3);
    assert.deepEqual(
      [...cos],
      [1, 1, Math.cos(1), Math.cos(0.01), Math.cos(2), Math.cos(0.02)].map(Math.fround),
    );
    assert.deepEqual(
      [...sin],
      [0, 0, Math.sin(1), Math.sin(0.01), Math.sin(2), Math.sin(0.02)].map(Math.fround),
    );
  });

  it('multiplies both by the attention factor of yarn', () => {
    const yarn = { type: 'yarn', factor: 4, betaFast: 32, betaSlow: 1, originalContextLength: 64 } as const;
    const plain = ropeTables(arch(16, 10000, { ...yarn, attentionFactor: 1 }), 4);
    const scaled = ropeTables(arch(16, 10000, { ...yarn, attentionFactor: 1.5 }), 4);
    assert.deepEqual([...scaled.cos.subarray(0, 8)], Array(8).fill(1.5));
    assertClose(
      scaled.sin,
      [...plain.sin].map((value) => 1.5 * value),
      1e-6,
    );
  });
});

describe('a chosen scaling', () => {
  const scaled = (text: string) => {
    const base = arch(8, 10000, null);
    return withScaling(base, chosenScaling(base, parseRopeChoice(text)!));
  };

  it('is TYPE:FACTOR with a factor above 1, and nothing else', () => {
    assert.deepEqual(parseRopeChoice('yarn:1.5'), { type: 'yarn', factor: 1.5 });
    for (const text of ['yarn', 'yarn:', 'yarn:1', 'yarn:0.5', 'ntk:4', 'yarn:4x', 'factors:2', 'yarn:-2'])
      assert.equal(parseRopeChoice(text), null, text);
  });

  it("reaches its factor times the base's window", () => {
    const windows = ['linear:2', 'dynamic:4', 'yarn:1.5', 'llama3:8'].map(
      (text) => scaled(text).contextLength,
    );
    assert.deepEqual(windows, [128, 256, 96, 512]);
  });

  it("takes the place of the checkpoint's own, and is relative to the window before that", () => {
    const own = { type: 'yarn', factor: 4, originalContextLength: 16, betaFast: 32, betaSlow: 1 } as const;
    const base = arch(8, 10000, { ...own, attentionFactor: 1 });
    const chosen = withScaling(base, chosenScaling(base, { type: 'linear', factor: 2 }));
    assert.deepEqual([chosen.ropeScaling, chosen.contextLength], [{ type: 'linear', factor: 2 }, 32]);
  });

  it("has dynamic scaling's frequencies at the full reach, however many positions the tables hold", () => {
    const dynamic = scaled('dynamic:4');
    const [few, many] = [ropeTables(dynamic, 3), ropeTables(dynamic, 300)];
    assert.deepEqual(few.cos, many.cos.subarray(0, few.cos.length));
    // base 10000 * (4 * 256 / 64 - 3) ^ (8 / 6)
    const base = 10000 * 13 ** (8 / 6);
    assert.equal(few.cos[4 + 3], Math.fround(Math.cos(base ** (-6 / 8))));
  });

  it('has the attention factor of yarn from its factor', () => {
    const { cos } = ropeTables(scaled('yarn:4'), 1);
    assert.equal(cos[0], Math.fround(0.1 * Math.log(4) + 1));
  });
});

/** [pair, frequency] */
const LLAMA32: readonly (readonly [number, number])[] = [
  [0, 1.0],
  [10, 0.016560440080994446],
  [13, 0.004839421345719893],
  [14, 0.003211445994752591],
  [15, 0.001290547928209264],
  [16, 0.00042955679655936815],
  [17, 9.70828780262767e-5],
  [18, 1.9461638184831125e-5],
  [19, 1.291476718704739e-5],
  [31, 9.41830672543491e-8],
];
