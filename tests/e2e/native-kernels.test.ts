// The engine on the native kernels and on ONNX Runtime's own operators: the same answers, for every family and kind of adapter.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { builtKernels, chooseKernels } from '../../src/runtime/native-kernels.js';
import { alone, assertSame, TOLERANCE, together } from '../helpers/engine-runs.js';
import { randomLora, randomTokens } from '../helpers/random-lora.js';
import { request, tinyModel } from '../helpers/tiny-model.js';

const skip =
  builtKernels().length === 0 && 'no kernels were compiled here: no C compiler, or another processor';
const FAMILIES = ['llama-tied', 'llama-bias', 'llama-rope-yarn', 'mistral', 'qwen2', 'qwen3'];

for (const family of FAMILIES)
  test(`${family}, f32: with and without native kernels`, { skip }, async () => {
    const model = await tinyModel(family, 'f32');
    const [native, plain] = [await model.open(), await model.open({ kernels: null })];
    const { architecture } = model.artifact.manifest;
    const adapters = [
      null,
      randomLora(architecture, 1, { rank: 3 }),
      randomLora(architecture, 2, { rank: 16 }),
    ];
    const requests = Array.from({ length: 6 }, (_, i) =>
      request(randomTokens(i, 3 + 11 * i, architecture.vocabSize), {
        adapter: adapters[i % 3]!,
        sampling: { maxTokens: 6 },
      }),
    );
    const [got, expected] = [await together(native, requests), await together(plain, requests)];
    got.forEach((result, i) => assertSame(result, expected[i]!, `request ${i}`, TOLERANCE));
    for (const engine of [native, plain]) await engine.dispose();
    model.dispose();
  });

test('q4: rows with adapters have the same bits in any company and chunking', { skip }, async () => {
  const model = await tinyModel('llama-tied', 'q4');
  const { architecture } = model.artifact.manifest;
  const requests = Array.from({ length: 8 }, (_, i) =>
    request(randomTokens(i, 4 + 9 * i, architecture.vocabSize), {
      adapter: i % 4 === 3 ? null : randomLora(architecture, i % 4, { rank: 4 + 4 * (i % 4) }),
      sampling: { maxTokens: 8 },
    }),
  );
  const engine = await model.open({ prefillChunk: 64, slots: 8 });
  const expected = await alone(engine, requests);
  await engine.dispose();
  for (const prefillChunk of [4, 16, 64]) {
    const other = await model.open({ prefillChunk, slots: 8 });
    (await together(other, requests)).forEach((result, i) =>
      assert.deepEqual(result.logprobs, expected[i]!.logprobs, `chunks of ${prefillChunk}, request ${i}`),
    );
    await other.dispose();
  }
  model.dispose();
});

test('`native` where nothing was compiled, and `onnxruntime` in any case', () => {
  assert.equal(chooseKernels('onnxruntime'), null);
  if (builtKernels().length > 0) assert.equal(chooseKernels('native'), builtKernels()[0]);
  else assert.throws(() => chooseKernels('native'), { code: 'unavailable', param: 'kernels' });
});
