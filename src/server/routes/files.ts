// /v1/files: upload, list, show, fetch and delete files of training examples. What is in them is checked by the job that reads them.

import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { GatewayError } from '../../errors.js';
import { readForm } from '../multipart-form.js';
import { fileObject, listObject } from '../openai/file-object.js';
import { limitBody, unexpected } from '../request-body.js';
import { queryInteger, readQuery } from '../request-query.js';
import type { ServerApp, ServerEnv, Services } from '../services.js';
import { documentRoute } from './document.js';

const MAX_PAGE = 10_000;

const uploadForm = z.object({
  purpose: z.literal('fine-tune'),
  file: z.any().meta({ type: 'string', format: 'binary' }),
});

const listQuery = z.strictObject({
  purpose: z.string('a string').optional(),
  limit: queryInteger(1, MAX_PAGE).optional(),
  order: z.enum(['asc', 'desc'], '"asc" or "desc"').optional(),
  after: z.string('the id of a file').optional(),
});

export function registerFileRoutes(app: ServerApp, services: Services): void {
  const filesOf = (c: Context<ServerEnv>) => services.training.of(c.var.caller.tenant).files;
  documentRoute(app, 'post', '/v1/files', 'Upload examples to train on', {
    body: uploadForm,
    bodyType: 'multipart/form-data',
  });
  app.post('/v1/files', limitBody(services.limits.maxUploadBytes), async (c) => {
    const file = await readUploadedFile(c);
    return c.json(fileObject(await filesOf(c).add(file.name, 'fine-tune', file.stream())));
  });
  documentRoute(app, 'get', '/v1/files', 'List the files', { query: listQuery });
  app.get('/v1/files', async (c) => {
    const { purpose = null, limit = MAX_PAGE, order = 'desc', after = null } = readQuery(c, listQuery);
    return c.json(listObject(await filesOf(c).list({ purpose, limit, order, after }), fileObject));
  });
  documentRoute(app, 'get', '/v1/files/{file}', 'Show a file');
  app.get('/v1/files/:file', async (c) => {
    const file = await filesOf(c).get(c.req.param('file'));
    if (file === null) throw fileNotFound(c.req.param('file'));
    return c.json(fileObject(file));
  });
  documentRoute(app, 'get', '/v1/files/{file}/content', "A file's bytes", {
    responseType: 'application/octet-stream',
  });
  app.get('/v1/files/:file/content', async (c) => {
    const found = await filesOf(c).read(c.req.param('file'));
    if (found === null) throw fileNotFound(c.req.param('file'));
    return c.body(found.content, 200, {
      'content-type': 'application/octet-stream',
      'content-length': String(found.file.sizeBytes),
    });
  });
  documentRoute(app, 'delete', '/v1/files/{file}', 'Delete a file; jobs that were made with it go on');
  app.delete('/v1/files/:file', async (c) => {
    const id = c.req.param('file');
    if (!(await filesOf(c).remove(id))) throw fileNotFound(id);
    return c.json({ id, object: 'file', deleted: true });
  });
}

async function readUploadedFile(c: Context): Promise<File> {
  const form = await readForm(c, ['file', 'purpose']);
  const [purpose, ...otherPurposes] = form.getAll('purpose');
  if (purpose !== 'fine-tune' || otherPurposes.length > 0)
    throw unexpected('purpose', '"fine-tune", given once', purpose);
  const [file, ...otherFiles] = form.getAll('file');
  if (!(file instanceof File) || otherFiles.length > 0)
    throw unexpected('file', 'given once, as a file', typeof file === 'string' ? file : undefined);
  return file;
}

function fileNotFound(id: string): GatewayError {
  return new GatewayError('not_found', `No file \`${id}\` exists; GET /v1/files lists those that do`, {
    param: 'file_id',
  });
}
