// POST /v1/adapters: a multipart form as a name and the files of a PEFT folder.

import type { Context } from 'hono';
import type { AdapterFiles, ServerDependencies } from './dependencies.js';
import { readForm } from './multipart-form.js';
import { unexpected } from './request-body.js';

export interface AdapterUpload {
  readonly name: string;
  readonly files: AdapterFiles;
}

const ARCHIVE = /\.(zip|tar\.gz|tgz)$/i;
const FILES = 'one archive (.zip, .tar.gz, .tgz) or each file of the folder';

/** Throws invalid_value, unsupported_parameter, and what readArchive throws. */
export async function readUpload(
  c: Context,
  readArchive: ServerDependencies['readArchive'],
): Promise<AdapterUpload> {
  const form = await readForm(c, ['name', 'file']);
  const [name, ...others] = form.getAll('name');
  if (typeof name !== 'string' || others.length > 0) throw unexpected('name', 'given once, as text', name);
  const parts = form.getAll('file');
  const files = parts.filter((part) => typeof part !== 'string');
  if (files.length === 0 || files.length < parts.length) {
    throw unexpected('file', FILES, parts.find((part) => typeof part === 'string') ?? undefined);
  }
  return { name, files: await unpack(files, readArchive) };
}

async function unpack(
  files: readonly File[],
  readArchive: ServerDependencies['readArchive'],
): Promise<AdapterFiles> {
  const archive = files.find((file) => ARCHIVE.test(file.name));
  if (archive !== undefined) {
    if (files.length > 1) throw unexpected('file', FILES, `${archive.name} and ${files.length - 1} more`);
    return readArchive(new Uint8Array(await archive.arrayBuffer()), archive.name);
  }
  const byName = new Map<string, Uint8Array>();
  for (const file of files) {
    const name = file.name.split(/[/\\]/).at(-1)!;
    if (name === '' || name === '..' || name === '.') throw unexpected('file', 'files with names', file.name);
    if (byName.has(name)) throw unexpected('file', 'files of different names', name);
    byName.set(name, new Uint8Array(await file.arrayBuffer()));
  }
  return byName;
}
