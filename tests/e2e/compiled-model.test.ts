// A compiled base: what it leaves on the disk, and how its sessions come and go.
import assert from 'node:assert/strict';
import { readdirSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, mock, test } from 'node:test';
import { CompiledModel } from '../../src/model/compiled-model.js';
import { BASE_VARIANT, type GraphVariant } from '../../src/model/serving-graph.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { recordSyncs, SYNCS_ARE_HIDDEN } from '../helpers/recorded-syncs.js';
import { tinyModel, type TinyModel } from '../helpers/tiny-model.js';

const PLAIN = BASE_VARIANT;
const AFFINE: GraphVariant = { ...BASE_VARIANT, affine: true };
let model: TinyModel;

before(async () => {
  model = await tinyModel('llama-tied', 'q4');
});
after(() => model.dispose());

const openModel = (runtime: Runtime): Promise<CompiledModel> =>
  CompiledModel.open(runtime, model.artifact.folder, model.artifact.manifest, 1);

/** The first test to open the model compiles it. */
test('is synced before it has its name', { skip: SYNCS_ARE_HIDDEN }, async () => {
  const { folder } = model.artifact;
  const synced = await recordSyncs();
  const compiled = await openModel(new Runtime());
  await compiled.dispose();
  mock.restoreAll();
  const names = synced.map((path) => basename(path));
  assert.deepEqual(names.slice(0, 2), ['packed.data', 'packed.onnx']);
  assert.match(names[2]!, /^compiled-.*\.tmp-/);
  assert.equal(synced[3], folder);
  assert.match(names[4]!, /^none\.onnx\.tmp-/);
  assert.match(names[5]!, /^compiled-[\w-]+$/);
  assert.equal(names.length, 6);
});

test('a session is loaded once for all who ask, and freed', async () => {
  const runtime = new Runtime();
  const compiled = await openModel(runtime);
  const [first, second, other] = await Promise.all(
    [PLAIN, PLAIN, AFFINE].map((each) => compiled.session(each)),
  );
  assert.equal(first, second);
  assert.notEqual(first, other);
  assert.equal(runtime.liveHandles, 2);
  await compiled.dispose();
  assert.equal(runtime.liveHandles, 0);
});

test('the event loop is free while a session loads', async () => {
  const compiled = await openModel(new Runtime());
  const state = { isLoaded: false };
  let turns = 0;
  const loading = compiled.session(PLAIN).then(() => (state.isLoaded = true));
  for (; !state.isLoaded; turns++) await new Promise((resolve) => setImmediate(resolve));
  await loading;
  assert.ok(turns > 1, `${turns} turns`);
  await compiled.dispose();
});

test('disposed while a session loads, it frees that too', async () => {
  const runtime = new Runtime();
  const compiled = await openModel(runtime);
  await compiled.dispose();
  assert.equal(runtime.liveHandles, 0);
});

test('a session that could not be loaded is loaded by the next call', async () => {
  const runtime = new Runtime();
  const compiled = await openModel(runtime);
  await compiled.session(AFFINE);
  await compiled.dispose();
  const { folder } = model.artifact;
  const inside = join(
    folder,
    readdirSync(folder).find((name) => name.startsWith('compiled-'))!,
  );
  const path = join(
    inside,
    readdirSync(inside).find((name) => name.includes('affine'))!,
  );
  renameSync(path, `${path}.whole`);
  writeFileSync(path, 'no model');
  const reopened = await openModel(runtime);
  await reopened.session(PLAIN);
  await assert.rejects(reopened.session(AFFINE), /ONNX Runtime: /);
  assert.equal(runtime.liveHandles, 1);
  renameSync(`${path}.whole`, path);
  await reopened.session(AFFINE);
  assert.equal(runtime.liveHandles, 2);
  await reopened.dispose();
  assert.equal(runtime.liveHandles, 0);
});
