// What each training method writes is read back by the adapters' readers with the values that the training model computed with.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { adapterBase } from '../../src/adapters/base.js';
import { readPeft } from '../../src/adapters/peft.js';
import type { ServingAdapter } from '../../src/adapters/types.js';
import { PROJECTIONS, projectionShape } from '../../src/model/architecture.js';
import type { BlockInputs, TrainingMethod } from '../../src/train/types.js';
import { assertClose } from '../helpers/gradient-check.js';
import { tinyModel } from '../helpers/tiny-model.js';
import { ADAPTER_METHODS, CHAT_TEMPLATE_HASH, trainedMethod } from '../helpers/trained-method.js';

const BASES = ['llama-tied', 'qwen2'];
const SERVED_AS: Readonly<Record<string, readonly [string, string]>> = {
  lora: ['LORA', 'lora'],
  prefix_tuning: ['PREFIX_TUNING', 'prefix'],
  prompt_tuning: ['PROMPT_TUNING', 'prefix'],
  p_tuning: ['P_TUNING', 'prefix'],
  bitfit: ['BITFIT', 'lora'],
  bottleneck: ['BOTTLENECK', 'bottleneck'],
};

/** One block of a loaded adapter under the names that training gives its inputs. */
function servedBlock(adapter: ServingAdapter, layer: number): Map<string, Float32Array> {
  const values = new Map<string, Float32Array>();
  if (adapter.kind === 'prefix') {
    const { k, v } = adapter.layers[layer]!;
    return values.set('prefix.k', k).set('prefix.v', v);
  }
  if (adapter.kind === 'bottleneck') {
    for (const place of ['attention', 'mlp'] as const) {
      const { down, downBias, up, upBias } = adapter.layers[layer]![place];
      const hidden = upBias.length;
      values.set(`bottleneck.${place}.down.weight`, transposed(down, hidden, adapter.size));
      values.set(`bottleneck.${place}.down.bias`, downBias);
      values.set(`bottleneck.${place}.up.weight`, transposed(up, adapter.size, hidden));
      values.set(`bottleneck.${place}.up.bias`, upBias);
    }
    return values;
  }
  for (const projection of PROJECTIONS) {
    const { lora, affine } = adapter.layers[layer]!;
    const [delta, bias] = [lora[projection], affine[projection]?.bias];
    if (bias) values.set(`bias.${projection}`, bias);
    if (delta === undefined) continue;
    values.set(`lora.${projection}.a`, transposed(delta.a, delta.a.length / delta.rank, delta.rank));
    values.set(`lora.${projection}.b`, transposed(delta.b, delta.rank, delta.b.length / delta.rank));
  }
  return values;
}

function transposed(values: Float32Array, rows: number, cols: number): Float32Array {
  return Float32Array.from(values, (_, at) => values[(at % rows) * cols + Math.floor(at / rows)]!);
}

function assertServes(adapter: ServingAdapter, blocks: readonly BlockInputs[], method: TrainingMethod): void {
  blocks.forEach((block, layer) => {
    const served = servedBlock(adapter, layer);
    assert.deepEqual([...served.keys()].toSorted(), [...block.keys()].toSorted());
    for (const [name, values] of block) {
      const projection = PROJECTIONS.find((each) => name === `lora.${each}.b`);
      const scale = projection === undefined ? 1 : method.additions.lora[projection]!.scale;
      assertClose(
        served.get(name)!,
        values.map((value) => value * scale),
        1e-7,
        `${layer} ${name}`,
      );
    }
  });
}

for (const name of BASES) {
  const model = await tinyModel(name);
  after(() => model.dispose());
  const base = adapterBase(model.artifact, CHAT_TEMPLATE_HASH);
  for (const [title, options] of Object.entries(ADAPTER_METHODS))
    test(`${name}, ${title}: the files hold what was trained`, async () => {
      const method = await trainedMethod(model.artifact, options, after);
      const files = await method.files();
      const { content, facts } = await readPeft(files, base);
      assert.deepEqual([facts.peftType, facts.servedAs], SERVED_AS[options.name]);
      const { blocks, virtualTokens } = await method.inputs();
      if (content.kind === 'prompt') assert.deepEqual(content.embeddings, virtualTokens);
      else {
        assertServes(content, blocks, method);
        assert.equal(virtualTokens, null);
      }
      for (const other of [
        { ...base, chatTemplateHash: 'd'.repeat(64) },
        { ...base, baseHash: 'e'.repeat(64) },
      ])
        await assert.rejects(readPeft(files, other), { code: 'adapter_base_mismatch' });
    });

  for (const title of ['lora', 'bitfit', 'bottleneck'])
    test(`${name}, ${title}: before the first step it is the base, and refused`, async () => {
      const method = await trainedMethod(model.artifact, ADAPTER_METHODS[title]!, after, 0);
      await assert.rejects(readPeft(await method.files(), base), {
        code: 'invalid_adapter',
        message: /changes nothing/,
      });
    });

  test(`${name}: gradients reach the parameters that the inputs came from`, async () => {
    for (const title of ['lora', 'bitfit', 'bottleneck']) {
      const method = await trainedMethod(model.artifact, ADAPTER_METHODS[title]!, after);
      const { blocks } = await method.inputs();
      await method.backward({ blocks, virtualTokens: null, ends: null });
      await method.backward({ blocks, virtualTokens: null, ends: null });
      for (const { values, gradient } of method.parameters)
        assert.deepEqual(
          gradient,
          values.map((value) => 2 * value),
        );
    }
  });
}

test('the shapes of bitfit and of the bottleneck are those of the base', async () => {
  const model = await tinyModel('llama-tied');
  after(() => model.dispose());
  const { architecture } = model.artifact.manifest;
  const bitfit = await trainedMethod(model.artifact, ADAPTER_METHODS['bitfit']!, after);
  assert.deepEqual(
    bitfit.parameters.slice(0, 5).map(({ shape }) => shape),
    bitfit.additions.biases.map((projection) => [projectionShape(architecture, projection)[0]]),
  );
  const bottleneck = await trainedMethod(model.artifact, ADAPTER_METHODS['bottleneck']!, after);
  const { hiddenSize: h } = architecture;
  assert.deepEqual(
    bottleneck.parameters.slice(0, 4).map(({ shape }) => shape),
    [[6, h], [6], [h, 6], [h]],
  );
});
