// Losses and gradients of the first step of supervised fine-tuning, before any optimizer, against PEFT's.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { TrainingModel } from '../../src/train/types.js';
import {
  norm,
  readReference,
  referenceBatch,
  type SftReference,
  totalNorm,
} from '../helpers/train-fixtures.js';
import { referenceLora, referencePrefix } from '../helpers/reference-methods.js';
import { trainingBase } from '../helpers/training-model.js';

const base = await trainingBase('llama-tied');
after(() => base.close());

/** Mean losses of the micro-batches; gradients as each normalization has them. */
async function firstStep(
  model: TrainingModel,
  { microbatches }: SftReference,
  normalization: 'tokens' | 'means',
): Promise<number[]> {
  for (const { gradient } of model.parameters) gradient.fill(0);
  const batches = microbatches.map(referenceBatch);
  const counts = batches.map(({ labels }) => labels.filter((label) => label >= 0).length);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const losses: number[] = [];
  for (const [i, batch] of batches.entries()) {
    const weight = -1 / (normalization === 'tokens' ? total : counts[i]! * batches.length);
    const logprobs = await model.accumulate(batch, (values) => values.map(() => weight), null);
    losses.push(-logprobs.reduce((sum, value) => sum + value, 0) / counts[i]!);
  }
  return losses;
}

for (const [file, create] of [
  ['lora-sft.json', referenceLora],
  ['prefix-sft.json', referencePrefix],
] as const)
  for (const gradientCheckpointing of [true, false]) {
    const title = `${file}, checkpointing ${gradientCheckpointing ? 'on' : 'off'}`;
    test(`${title}: losses and gradient norms of the first step are PEFT's`, async () => {
      const reference = readReference(file) as SftReference;
      const model = base.model(await create(base), { gradientCheckpointing });
      for (const normalization of ['means', 'tokens'] as const) {
        const [first] = reference.runs[normalization].steps;
        const losses = await firstStep(model, reference, normalization);
        losses.forEach((loss, i) => assertNear(loss, first!.microbatch_mean_loss[i]!, 1e-4, `loss ${i}`));
        assertNear(totalNorm(model.parameters), first!.grad_norm, 1e-3 * first!.grad_norm, normalization);
      }
      for (const { name, gradient } of model.parameters) {
        const expected = reference.first_step_grad_l2[name]!;
        assertNear(norm(gradient), expected, 1e-3 * expected, name);
      }
    });
  }

function assertNear(actual: number, expected: number, tolerance: number, name: string): void {
  assert(Math.abs(actual - expected) <= tolerance, `${name}: ${actual}, expected ${expected}`);
}
