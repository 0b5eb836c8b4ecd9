// /v1/adapters and vLLM's load and unload routes over a fake registry.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { errorOf, jsonOf, testApp } from '../helpers/server-app.js';

function upload(name: string, ...files: [string, string][]): FormData {
  const form = new FormData();
  form.set('name', name);
  for (const [filename, text] of files) form.append('file', new File([text], filename));
  return form;
}

const texts = (files: ReadonlyMap<string, Uint8Array>) =>
  Object.fromEntries([...files].map(([name, bytes]) => [name, Buffer.from(bytes).toString()]));

const germanObject = {
  object: 'adapter',
  id: 'german',
  name: 'german',
  owner: 'default',
  version: 1,
  hash: 'hash-of-german',
  peft_type: 'LORA',
  served_as: 'lora',
  rank: 8,
  target_modules: ['q_proj', 'v_proj'],
  num_virtual_tokens: null,
  size_bytes: 1234,
  base: 'tiny',
  created_at: 1_700_000_000,
};

describe('POST /v1/adapters', () => {
  test('takes each file of a folder', async () => {
    const t = testApp();
    const form = upload('german', ['adapter_config.json', '{}'], ['dir/adapter_model.safetensors', 'bytes']);
    const response = await t.post('/v1/adapters', form);
    assert.equal(response.status, 201);
    assert.equal(response.headers.get('location'), '/v1/adapters/german');
    assert.deepEqual(await jsonOf(response), germanObject);
    assert.deepEqual(
      t.adapters.registered.map(({ name, files }) => [name, texts(files)]),
      [['german', { 'adapter_config.json': '{}', 'adapter_model.safetensors': 'bytes' }]],
    );
  });

  test('the same name again is a new version', async () => {
    const t = testApp();
    const versions = [];
    for (let round = 0; round < 2; round++) {
      const response = await t.post('/v1/adapters', upload('a', ['adapter_config.json', '{}']));
      versions.push((await jsonOf<{ version: number }>(response)).version);
    }
    assert.deepEqual(versions, [1, 2]);
  });

  for (const filename of ['a.zip', 'a.tar.gz', 'a.tgz', 'A.ZIP']) {
    test(`takes an archive: ${filename}`, async () => {
      const seen: [string, string][] = [];
      const readArchive = async (bytes: Uint8Array, name: string) => {
        seen.push([name, Buffer.from(bytes).toString()]);
        return new Map([['adapter_config.json', Buffer.from('inside')]]);
      };
      const t = testApp({ deps: { readArchive } });
      const response = await t.post('/v1/adapters', upload('german', [filename, 'packed']));
      assert.equal(response.status, 201);
      assert.deepEqual(seen, [[filename, 'packed']]);
      assert.deepEqual(texts(t.adapters.registered[0]!.files), { 'adapter_config.json': 'inside' });
    });
  }

  test('a bad archive is told as it is', async () => {
    const readArchive = () =>
      Promise.reject(new GatewayError('invalid_file', 'entry ../x leaves the folder'));
    const response = await testApp({ deps: { readArchive } }).post(
      '/v1/adapters',
      upload('a', ['a.zip', '']),
    );
    assert.deepEqual([response.status, (await errorOf(response)).code], [400, 'invalid_file']);
  });

  const nameless = new FormData();
  nameless.append('file', new File(['{}'], 'adapter_config.json'));
  const twice = upload('a', ['adapter_config.json', '{}']);
  twice.append('name', 'b');
  const extra = upload('a', ['adapter_config.json', '{}']);
  extra.append('scale', '2');
  const asText = upload('a');
  asText.append('file', '{}');
  const refused: [string, FormData, string, string][] = [
    ['no name', nameless, 'invalid_value', 'name'],
    ['two names', twice, 'invalid_value', 'name'],
    ['an unknown field', extra, 'unsupported_parameter', 'scale'],
    ['no file', upload('a'), 'invalid_value', 'file'],
    ['a file as text', asText, 'invalid_value', 'file'],
    ['two files of one name', upload('a', ['x/f', '1'], ['y/f', '2']), 'invalid_value', 'file'],
    ['an archive beside a file', upload('a', ['a.zip', ''], ['f', '']), 'invalid_value', 'file'],
    ['a name of dots', upload('a', ['..', '']), 'invalid_value', 'file'],
  ];
  for (const [what, form, code, param] of refused) {
    test(`refuses ${what}`, async () => {
      const t = testApp();
      const response = await t.post('/v1/adapters', form);
      const error = await errorOf(response);
      assert.deepEqual([response.status, error.code, error.param], [400, code, param]);
      assert.deepEqual(t.adapters.registered, []);
    });
  }

  test('refuses what is no multipart form', async () => {
    const t = testApp();
    const json = await t.post('/v1/adapters', '{}', { headers: { 'content-type': 'application/json' } });
    assert.deepEqual([json.status, (await errorOf(json)).param], [400, 'content-type']);
    const headers = { 'content-type': 'multipart/form-data; boundary=x' };
    const broken = await t.post('/v1/adapters', 'no boundary in here', { headers });
    const error = await errorOf(broken);
    assert.deepEqual([broken.status, error.code], [400, 'invalid_value']);
    assert.match(error.message, /^Expected the request body to be a multipart form/);
  });
});

describe('GET and DELETE', () => {
  test('list, show, delete', async () => {
    const t = testApp({ adapterNames: ['german'] });
    const list = await t.app.request('/v1/adapters');
    assert.deepEqual(await jsonOf(list), { object: 'list', data: [germanObject] });
    const version = { hash: 'hash-of-german', size_bytes: 1234, created_at: 1_700_000_000, current: true };
    assert.deepEqual(await jsonOf(await t.app.request('/v1/adapters/german')), {
      ...germanObject,
      versions: [{ id: 'german@1', version: 1, ...version }],
      shared_with: [],
    });
    const deleted = await t.app.request('/v1/adapters/german', { method: 'DELETE' });
    assert.equal(deleted.status, 200);
    assert.deepEqual(await jsonOf(deleted), { id: 'german', object: 'adapter', deleted: true });
    for (const method of ['GET', 'DELETE']) {
      const gone = await t.app.request('/v1/adapters/german', { method });
      const error = await errorOf(gone);
      assert.deepEqual([gone.status, error.code, error.param], [404, 'not_found', 'name']);
    }
  });

  test('a name with a slash, escaped or not', async () => {
    const t = testApp({ adapterNames: ['team/german'] });
    for (const path of [
      '/v1/adapters/team%2Fgerman',
      '/v1/adapters/team/german',
      '/v1/models/team%2Fgerman',
    ]) {
      const response = await t.app.request(path);
      assert.equal((await jsonOf<{ id: string }>(response)).id, 'team/german');
    }
  });
});

describe("vLLM's load and unload", () => {
  let root = '';
  let folder = '';

  before(async () => {
    root = await realpath(await mkdtemp(join(tmpdir(), 'runtime-lora-')));
    folder = join(root, 'adapters');
    await mkdir(join(folder, 'german'), { recursive: true });
    await mkdir(join(root, 'secret'));
    await writeFile(join(folder, 'a-file'), '');
    await symlink(join(root, 'secret'), join(folder, 'link-out'));
    await symlink(join(folder, 'german'), join(folder, 'link-in'));
    await symlink(folder, join(root, 'folder-link'));
  });
  after(() => rm(root, { recursive: true }));

  function loraApp(adapterNames: string[] = [], at = folder) {
    const read: string[] = [];
    const readAdapterFolder = async (path: string) => {
      read.push(path);
      return new Map([['adapter_config.json', Buffer.from('{}')]]);
    };
    return { read, ...testApp({ adapterNames, deps: { runtimeLora: { folder: at }, readAdapterFolder } }) };
  }

  test('load, then unload, in its words', async () => {
    const t = loraApp();
    const loaded = await t.post('/v1/load_lora_adapter', { lora_name: 'german', lora_path: 'german' });
    assert.equal(loaded.status, 200);
    assert.equal(await loaded.text(), "Success: LoRA adapter 'german' added successfully.");
    assert.deepEqual(t.read, [join(folder, 'german')]);
    const unloaded = await t.post('/v1/unload_lora_adapter', { lora_name: 'german' });
    assert.equal(unloaded.status, 200);
    assert.equal(await unloaded.text(), "Success: LoRA adapter 'german' removed successfully.");
    const again = await t.post('/v1/unload_lora_adapter', { lora_name: 'german' });
    assert.equal(again.status, 404);
    assert.equal((await errorOf(again)).message, "The lora adapter 'german' cannot be found.");
  });

  test('a name that is taken needs load_inplace', async () => {
    const t = loraApp(['german']);
    const body = { lora_name: 'german', lora_path: join(folder, 'german'), base_model_name: 'hub/tiny' };
    const taken = await t.post('/v1/load_lora_adapter', body);
    assert.equal(taken.status, 400);
    assert.equal((await errorOf(taken)).message, "The lora adapter 'german' has already been loaded.");
    const replaced = await t.post('/v1/load_lora_adapter', { ...body, load_inplace: true });
    assert.equal(replaced.status, 200);
    assert.equal(t.adapters.registered.length, 1);
  });

  test('the folder itself may be given by a link', async () => {
    const t = loraApp([], join(root, 'folder-link'));
    for (const path of ['german', 'link-in', join(root, 'folder-link', 'german'), './x/../german']) {
      const body = { lora_name: 'a', lora_path: path, load_inplace: true };
      assert.equal((await t.post('/v1/load_lora_adapter', body)).status, 200, path);
    }
    assert.deepEqual(new Set(t.read), new Set([join(folder, 'german')]));
  });

  test('a path outside the folder is not read, whether something is there or not', async () => {
    const t = loraApp();
    const paths = [
      '..',
      '.',
      '../secret',
      '../adapters-not',
      '/etc',
      join(root, 'secret'),
      'link-out',
      'german/../..',
    ];
    for (const path of [...paths, '/no/such/place']) {
      const response = await t.post('/v1/load_lora_adapter', { lora_name: 'a', lora_path: path });
      const error = await errorOf(response);
      assert.deepEqual([response.status, error.code, error.param], [403, 'not_permitted', 'lora_path'], path);
    }
    assert.deepEqual(t.read, []);
  });

  test('nothing at the path', async () => {
    const t = loraApp();
    for (const path of ['french', 'a-file/x']) {
      const response = await t.post('/v1/load_lora_adapter', { lora_name: 'a', lora_path: path });
      assert.equal(response.status, 404);
      assert.equal((await errorOf(response)).message, `No adapter found for '${path}'.`);
    }
  });

  test('missing fields, the name of the base, another base', async () => {
    const t = loraApp();
    for (const [path, body, status, code, param] of [
      ['load', { lora_name: 'a' }, 400, 'invalid_value', 'lora_path'],
      ['load', { lora_path: 'german' }, 400, 'invalid_value', 'lora_name'],
      ['unload', {}, 400, 'invalid_value', 'lora_name'],
      ['unload', { lora_name: 'a', lora_int_id: 1 }, 400, 'unsupported_parameter', 'lora_int_id'],
      ['load', { lora_name: 'tiny', lora_path: 'german' }, 409, 'adapter_exists', 'lora_name'],
      [
        'load',
        { lora_name: 'a', lora_path: 'german', base_model_name: 'other' },
        400,
        'adapter_base_mismatch',
        'base_model_name',
      ],
    ] as const) {
      const response = await t.post(`/v1/${path}_lora_adapter`, body);
      const error = await errorOf(response);
      assert.deepEqual([response.status, error.code, error.param], [status, code, param]);
    }
    assert.deepEqual(t.read, []);
  });

  test('off unless a folder is given', async () => {
    const t = testApp();
    for (const path of ['/v1/load_lora_adapter', '/v1/unload_lora_adapter']) {
      const response = await t.post(path, { lora_name: 'a', lora_path: 'a' });
      assert.equal(response.status, 404);
      assert.match((await errorOf(response)).message, /start the server with --allow-runtime-lora/);
    }
  });
});
