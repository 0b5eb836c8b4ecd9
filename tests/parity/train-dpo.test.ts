// DPO's log-probabilities and every gradient by name, against PyTorch's autograd over the same adapter.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { IGNORED } from '../../src/data/types.js';
import { createLoraMethod } from '../../src/train/methods/lora.js';
import { assertClose } from '../helpers/gradient-check.js';
import { batchOf, dpoReference, readTensors, setParameters, totalNorm } from '../helpers/train-fixtures.js';
import { LORA_R8, trainingBase } from '../helpers/training-model.js';

const base = await trainingBase('llama-tied');
after(() => base.close());

test('log-probabilities of policy and reference, and the gradient of every factor, are PyTorch’s', async () => {
  const reference = dpoReference();
  const { beta, prompt_len: promptLength, chosen, rejected } = reference;
  const method = createLoraMethod(base.artifact.manifest, LORA_R8, 0);
  setParameters(method.parameters, readTensors('lora-init/adapter_model.safetensors'));
  const model = base.model(method);
  const rows = [chosen, rejected].map((tokens) => [
    { tokens, labels: tokens.map((token, i) => (i < promptLength ? IGNORED : token)) },
  ]);
  const batch = batchOf(rows);
  const split = chosen.length - promptLength;
  const sums = (logprobs: Float32Array): readonly [number, number] => [
    logprobs.subarray(0, split).reduce((sum, value) => sum + value, 0),
    logprobs.subarray(split).reduce((sum, value) => sum + value, 0),
  ];
  const [refChosen, refRejected] = sums(await model.logprobs(batch, { reference: true }));
  const weigh = (logprobs: Float32Array): Float32Array => {
    const [good, bad] = sums(logprobs);
    const margin = beta * (good - refChosen - (bad - refRejected));
    const slope = beta / (1 + Math.exp(margin));
    return logprobs.map((_, i) => (i < split ? -slope : slope));
  };
  const [policyChosen, policyRejected] = sums(await model.accumulate(batch, weigh, null));
  const found = { refChosen, refRejected, policyChosen, policyRejected };
  const expected = {
    refChosen: reference.ref_chosen_logp,
    refRejected: reference.ref_rejected_logp,
    policyChosen: reference.policy_chosen_logp,
    policyRejected: reference.policy_rejected_logp,
  };
  for (const key of Object.keys(found) as (keyof typeof found)[])
    assert(Math.abs(found[key] - expected[key]) < 1e-3, `${key}: ${found[key]}, expected ${expected[key]}`);
  assert(Math.abs(totalNorm(model.parameters) - reference.grad_norm) < 1e-3 * reference.grad_norm);
  const gradients = readTensors('dpo-grads.safetensors');
  assert.equal(gradients.size, model.parameters.length);
  for (const { name, gradient } of model.parameters) assertClose(gradient, gradients.get(name)!, 1e-4, name);
});
