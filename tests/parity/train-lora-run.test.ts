// A whole run of the trainer, five steps with two micro-batches each, against PEFT's and PyTorch's: every loss and gradient norm, and the
// weights at the end. (The reference's other run divides by micro-batches instead of tokens, which the trainer never does.)
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { IGNORED } from '../../src/data/types.js';
import { referenceLora, referencePrefix } from '../helpers/reference-methods.js';
import { trainingBase } from '../helpers/training-model.js';
import { adapterBytes, eventsOf, runSmall, temporaryFolder } from '../helpers/training-runs.js';
import {
  batchOf,
  dpoReference,
  readReference,
  readTensors,
  referenceBatch,
  type SftReference,
} from '../helpers/train-fixtures.js';
import { readTensors as readAllTensors } from '../helpers/adapter-fixtures.js';

const base = await trainingBase('llama-tied');
after(() => base.close());

for (const [name, create] of [
  ['lora', referenceLora],
  ['prefix', referencePrefix],
] as const)
  test(`${name}: five steps are PyTorch's`, async (t) => {
    const { microbatches, runs } = readReference(`${name}-sft.json`) as SftReference;
    const method = await create(base);
    const folder = temporaryFolder(t);
    const run = await runSmall(folder, {
      tokenModel: { model: base.model(method), method },
      batches: {
        numMicroBatches: 2,
        fingerprint: 'reference',
        microBatch: (_, index) => referenceBatch(microbatches[index]!),
      },
      options: {
        accumulation: 2,
        epochs: 5,
        learningRate: 1e-3,
        warmupRatio: 0.4,
        weightDecay: 0,
        maxGradNorm: 1,
      },
    });
    const steps = eventsOf(run, 'step');
    assert.equal(steps.length, 5);
    for (const [at, { loss, gradNorm }] of steps.entries()) {
      const expected = runs.tokens.steps[at]!;
      near(loss, expected.loss, 1e-4, `loss of step ${at + 1}`);
      near(gradNorm, expected.grad_norm, 1e-4, `gradient norm of step ${at + 1}`);
    }
    const final = readTensors(`${name}-final-tokens/adapter_model.safetensors`);
    const own = readAllTensors(adapterBytes(folder));
    assert.deepEqual([...own.keys()].toSorted(), [...final.keys()].toSorted());
    for (const [key, values] of final)
      for (const [i, value] of values.entries()) near(own.get(key)!.data[i]!, value, 1e-4, `${key}[${i}]`);
  });

test("a preference step has PyTorch's loss, rewards and gradient norm", async (t) => {
  const reference = dpoReference();
  const rows = [reference.chosen, reference.rejected].map((tokens) => [
    { tokens, labels: tokens.map((token, at) => (at < reference.prompt_len ? IGNORED : token)) },
  ]);
  const method = await referenceLora(base);
  const run = await runSmall(temporaryFolder(t), {
    tokenModel: { model: base.model(method), method },
    batches: { numMicroBatches: 1, fingerprint: 'reference', microBatch: () => batchOf(rows) },
    options: {
      stage: 'dpo',
      maxSteps: 1,
      dpo: { beta: reference.beta, loss: 'sigmoid', labelSmoothing: 0 },
    },
  });
  const [step] = eventsOf(run, 'step');
  near(step!.loss, reference.loss, 1e-4, 'loss');
  near(step!.gradNorm, reference.grad_norm, 1e-3, 'gradient norm');
  near(step!.preference!.rewardsChosen, reference.reward_chosen, 1e-4, 'reward of the chosen answer');
  near(step!.preference!.rewardsRejected, reference.reward_rejected, 1e-4, 'reward of the rejected answer');
  near(step!.preference!.rewardsMargins, reference.margin, 1e-4, 'margin');
});

function near(actual: number, expected: number, tolerance: number, name: string): void {
  assert(Math.abs(actual - expected) <= tolerance, `${name}: ${actual}, expected ${expected}`);
}
