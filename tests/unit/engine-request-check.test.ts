// What the engine refuses before it queues a request, and how it says so.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PrefixAdapter } from '../../src/adapters/types.js';
import { GatewayError } from '../../src/errors.js';
import { checkRequest } from '../../src/engine/request-check.js';
import type { GenerationRequest } from '../../src/engine/types.js';
import { request } from '../helpers/tiny-model.js';

const CONTEXT = 20;
const VOCAB = 100;
const PREFIX: PrefixAdapter = { kind: 'prefix', hash: 'p', sizeBytes: 0, numVirtualTokens: 8, layers: [] };

function refusal(item: GenerationRequest): [string, string | null, string] {
  try {
    checkRequest(item, CONTEXT, VOCAB);
  } catch (error) {
    if (error instanceof GatewayError) return [error.code, error.param, error.message];
    throw error;
  }
  return assert.fail('was accepted');
}

test('an empty prompt', () => {
  assert.deepEqual(refusal(request([])), [
    'invalid_value',
    'prompt',
    'Expected the prompt to have at least one token, got none.',
  ]);
});

test('token ids outside of the vocabulary', () => {
  for (const id of [-1, 100, 1.5, NaN, Infinity]) {
    const [code, param, message] = refusal(request([1, id, 2]));
    assert.deepEqual([code, param], ['invalid_value', 'prompt']);
    assert.equal(message, `Expected token ids to be in [0, 100), got ${id} in the prompt.`);
  }
});

test('logit_bias for ids outside of the vocabulary', () => {
  for (const id of [-1, 100, 1.5]) {
    const [code, param, message] = refusal(
      request([1], {
        sampling: {
          logitBias: new Map([
            [3, 1],
            [id, 1],
          ]),
        },
      }),
    );
    assert.deepEqual([code, param], ['invalid_value', 'logit_bias']);
    assert(message.endsWith(`got ${id}.`), message);
  }
});

test('a priority that has no place in the order', () => {
  for (const priority of [NaN, Infinity, 0.5])
    assert.deepEqual(refusal(request([1], { priority })), [
      'invalid_value',
      'priority',
      `Expected the tenant's priority to be an integer, got ${priority}.`,
    ]);
  for (const priority of [-3, 0, 7]) checkRequest(request([1], { priority }), CONTEXT, VOCAB);
});

test('more tokens than the context holds, virtual ones included', () => {
  const prompt = Array.from({ length: 10 }, (_, i) => i);
  checkRequest(request(prompt, { sampling: { maxTokens: 10 } }), CONTEXT, VOCAB);
  checkRequest(request(prompt, { adapter: PREFIX, sampling: { maxTokens: 2 } }), CONTEXT, VOCAB);
  const [code, param, message] = refusal(request(prompt, { sampling: { maxTokens: 11 } }));
  assert.deepEqual([code, param], ['context_length_exceeded', 'messages']);
  assert.match(message, /context is 20 tokens\. The request needs 21: 10 in the prompt, 11 to generate/);
  assert.match(
    refusal(request(prompt, { adapter: PREFIX, sampling: { maxTokens: 3 } }))[2],
    /needs 21: 8 virtual, 10 in the prompt, 3 to generate/,
  );
});

test('what is in range passes', () => {
  checkRequest(
    request([0, 99], {
      sampling: {
        logitBias: new Map([
          [0, -100],
          [99, 100],
        ]),
      },
    }),
    CONTEXT,
    VOCAB,
  );
});
