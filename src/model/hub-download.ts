// One remote file to one local file: resumed where it was cut, retried, checked against its sha256, renamed into place.
// Which files a model needs is hub-repository's business.
import { createHash, type Hash } from 'node:crypto';
import { mkdir, open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GatewayError } from '../errors.js';
import { assertFreeSpace, outOfSpace } from './disk-space.js';
import { bodyChunks } from './hub-body.js';
import { PartFile } from './hub-part.js';
import { locate, TransferError, type HubAccess, type Located, type TransferLimits } from './hub-transfer.js';

export interface DownloadUi {
  /** Sizes in bytes. */
  progress(label: string, done: number, total: number): void;
  log(line: string): void;
}

export interface HubContext {
  readonly access: HubAccess;
  readonly limits: TransferLimits;
  readonly ui: DownloadUi;
}

export interface RemoteFile {
  /** Path on the Hub, from the root: `/owner/name/resolve/main/config.json`. */
  readonly path: string;
  /** Known beforehand; null takes the Hub's own checksum, which it has for large files. */
  readonly sha256: string | null;
}

const SHA256 = /^[0-9a-f]{64}$/;

/**
 * Downloads to `target` and returns the size in bytes; complete, checked and synced on return.
 * Throws TransferError (the network), GatewayError download_failed (checksum, disk), not_permitted, model_not_found.
 */
export async function downloadFile(context: HubContext, remote: RemoteFile, target: string): Promise<number> {
  await mkdir(dirname(target), { recursive: true });
  const part = new PartFile(target);
  let failures = 0;
  for (;;) {
    const before = await part.size();
    try {
      return await attempt(context, remote, part);
    } catch (error) {
      if (!(error instanceof TransferError) || (error.unreachable && failures === 0)) throw error;
      failures = (await part.size()) > before ? 1 : failures + 1;
      const delay = context.limits.retryDelaysMs[failures - 1];
      if (delay === undefined) throw error;
      context.ui.log(`${basename(target)}: ${error.message}; trying again`);
      await sleep(error.retryAfterMs ?? delay);
    }
  }
}

async function attempt(context: HubContext, remote: RemoteFile, part: PartFile): Promise<number> {
  const kept = { etag: await part.etag(), size: await part.size() };
  const located = await locate(context.access, context.limits, remote.path, (etag) =>
    kept.etag !== null && (etag === null || etag === kept.etag) ? kept.size : 0,
  );
  const { response, etag, host } = located;
  const start = response.status === 206 ? kept.size : 0;
  if (
    response.status !== 200 &&
    !(response.status === 206 && etag === kept.etag && startsAt(response, start))
  ) {
    await response.body?.cancel();
    if (kept.size === 0)
      throw new TransferError(`${host} answered ${response.status}`, { unreachable: false });
    await part.discard();
    return attempt(context, remote, part);
  }
  const name = basename(part.target);
  const total = located.linkedSize ?? bodyEnd(response, start);
  await assertFreeSpace(dirname(part.target), (total ?? 0) - start, name);
  if (start > 0) context.ui.log(`${name}: resuming at ${start} of ${total ?? 'unknown'} bytes`);
  else await part.begin(etag);
  const hash = start > 0 ? await part.hash() : createHash('sha256');
  const size = await receive(context, located, part, { start, total, hash });
  if (total !== null && size < total)
    throw new TransferError(`ended after ${size} of ${total} bytes`, { unreachable: false });
  const fault = checksumFault(remote, etag, hash.digest('hex'));
  if (fault !== null) {
    await part.discard();
    if (start > 0) return attempt(context, remote, part);
    throw new GatewayError('download_failed', `${remote.path}: ${fault}; nothing was kept`, {
      param: 'model',
    });
  }
  await part.complete();
  return size;
}

/** Appends the body to the part; returns the part's size. The hash continues over the same bytes. */
async function receive(
  context: HubContext,
  { response, host }: Located,
  part: PartFile,
  { start, total, hash }: { start: number; total: number | null; hash: Hash },
): Promise<number> {
  const name = basename(part.target);
  const file = await open(part.path, start > 0 ? 'a' : 'w');
  let size = start;
  try {
    for await (const chunk of bodyChunks(response, host, context.limits.idleTimeoutMs)) {
      hash.update(chunk);
      await file.appendFile(chunk);
      size += chunk.length;
      if (total !== null) context.ui.progress(name, size, total);
    }
    await file.sync();
  } catch (error) {
    throw outOfSpace(error, dirname(part.target), name) ?? error;
  } finally {
    await file.close();
  }
  return size;
}

/** The pinned checksum goes before the Hub's. */
function checksumFault(remote: RemoteFile, etag: string | null, actual: string): string | null {
  const expected = remote.sha256 ?? (etag !== null && SHA256.test(etag) ? etag : null);
  return expected === null || expected === actual ? null : `Expected sha256 ${expected}, got ${actual}`;
}

/** Content-Range: bytes START-END/TOTAL. */
function startsAt(response: Response, start: number): boolean {
  return response.headers.get('content-range')?.startsWith(`bytes ${start}-`) ?? false;
}

/** Where the body ends within the file; null where the server does not say. */
function bodyEnd(response: Response, start: number): number | null {
  const length = response.headers.get('content-length');
  return length === null ? null : start + Number(length);
}
