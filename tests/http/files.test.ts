// /v1/files: upload, list, show, fetch, delete, and every refusal.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorOf, jsonOf } from '../helpers/server-app.js';
import { trainingApp } from '../helpers/training-app.js';

interface FileObject {
  readonly id: string;
  readonly bytes: number;
}

function form(fields: Readonly<Record<string, string | File>>): FormData {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  return body;
}
const upload = (text: string) => form({ purpose: 'fine-tune', file: new File([text], 'train.jsonl') });

test('a file goes in and comes out', async (t) => {
  const { app, post } = await trainingApp(t);
  const response = await post('/v1/files', upload('{"a": "ü"}\n'));
  assert.equal(response.status, 200);
  const file = await jsonOf<FileObject>(response);
  assert.match(file.id, /^file-[a-z0-9]{24}$/);
  const expected = {
    id: file.id,
    object: 'file',
    bytes: 12,
    created_at: 1_700_000_000,
    filename: 'train.jsonl',
    purpose: 'fine-tune',
    status: 'processed',
    status_details: null,
    expires_at: null,
  };
  assert.deepEqual(file, expected);
  assert.deepEqual(await jsonOf(await app.request(`/v1/files/${file.id}`)), expected);
  const content = await app.request(`/v1/files/${file.id}/content`);
  assert.equal(content.headers.get('content-length'), '12');
  assert.equal(await content.text(), '{"a": "ü"}\n');
  const gone = await app.request(`/v1/files/${file.id}`, { method: 'DELETE' });
  assert.deepEqual(await jsonOf(gone), { id: file.id, object: 'file', deleted: true });
  for (const path of ['', '/content'])
    assert.equal((await app.request(`/v1/files/${file.id}${path}`)).status, 404);
  assert.equal((await app.request(`/v1/files/${file.id}`, { method: 'DELETE' })).status, 404);
});

test('the list pages', async (t) => {
  const { app, post } = await trainingApp(t);
  const ids: string[] = [];
  for (const text of ['1', '2', '3'])
    ids.push((await jsonOf<FileObject>(await post('/v1/files', upload(text)))).id);
  const list = async (query: string) => {
    const { data, ...rest } = await jsonOf<{ data: FileObject[] }>(await app.request(`/v1/files${query}`));
    return { order: data.map(({ id }) => ids.indexOf(id)), ...rest };
  };
  assert.deepEqual(await list(''), {
    object: 'list',
    order: [2, 1, 0],
    first_id: ids[2],
    last_id: ids[0],
    has_more: false,
  });
  assert.deepEqual((await list('?order=asc&limit=1')).order, [0]);
  assert.deepEqual((await list(`?order=asc&limit=1&after=${ids[0]}`)).order, [1]);
  assert.deepEqual((await list('?purpose=fine-tune-results')).order, []);
});

test('what is not honoured is refused by name', async (t) => {
  const { app, post } = await trainingApp(t, {}, { deps: { limits: { maxUploadBytes: 1000 } } });
  const file = new File(['{}'], 'a.jsonl');
  const refused = async (body: FormData | string, status: number, code: string, param: string | null) => {
    const response = await post('/v1/files', body);
    const error = await errorOf(response);
    assert.deepEqual([response.status, error.code, error.param], [status, code, param]);
    return error.message;
  };
  const message = await refused(form({ purpose: 'batch', file }), 400, 'invalid_value', 'purpose');
  assert.equal(message, 'Expected `purpose` to be "fine-tune", given once, got `"batch"`');
  await refused(form({ file }), 400, 'invalid_value', 'purpose');
  await refused(form({ purpose: 'fine-tune' }), 400, 'invalid_value', 'file');
  await refused(form({ purpose: 'fine-tune', file: 'text' }), 400, 'invalid_value', 'file');
  const expires = form({ purpose: 'fine-tune', file, 'expires_after[anchor]': 'created_at' });
  await refused(expires, 400, 'unsupported_parameter', 'expires_after[anchor]');
  await refused('{}', 400, 'invalid_value', 'content-type');
  await refused(upload('x'.repeat(2000)), 413, 'payload_too_large', null);
  for (const [query, code, param] of [
    ['?limit=0', 'invalid_value', 'limit'],
    ['?limit=x', 'invalid_value', 'limit'],
    ['?order=up', 'invalid_value', 'order'],
    ['?after=file-none', 'not_found', 'after'],
    ['?size=3', 'unsupported_parameter', 'size'],
  ] as const) {
    const error = await errorOf(await app.request(`/v1/files${query}`));
    assert.deepEqual([error.code, error.param], [code, param], query);
  }
});
