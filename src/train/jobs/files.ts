// Files of examples and of results: a row for each in the database, the bytes shared by hash. A file's bytes go when neither a row nor a
// job that has not ended uses them.

import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import type { Selectable } from 'kysely';
import { createSerial } from '../../adapters/serial.js';
import type { CheckQuota } from '../../tenants/check-quota.js';
import type { FileBytes } from './file-bytes.js';
import { newId } from './ids.js';
import { pageOf, seqAfter } from './paging.js';
import type { FileTable, TrainingDatabase } from './tables.js';
import type { FilePurpose, TrainingFile, TrainingFiles } from './types.js';

export type StoredFile = Selectable<FileTable>;

export interface FileShelf {
  /** A tenant's files: another's are answered like ones that do not exist. */
  of(tenant: string): TrainingFiles;
  find(tenant: string, id: string): Promise<StoredFile | null>;
  pathOf(hash: string): string;
  /** Nothing lets go of bytes before the task has ended. */
  whileKept<T>(task: () => Promise<T>): Promise<T>;
  /** Lets go of bytes that nothing uses any more. */
  release(hashes: readonly (string | null)[]): Promise<void>;
  /** Removes what a crash left behind. */
  sweep(): Promise<void>;
}

/** An upload of another process on the same folder takes less than this from its bytes to its row. */
const SWEEP_GRACE_MS = 60_000;

export function createFiles(
  db: TrainingDatabase,
  bytes: FileBytes,
  checkQuota: CheckQuota,
  clock: () => number,
): FileShelf {
  const alone = createSerial();
  const rows = (tenant: string) => db.selectFrom('training_files').selectAll().where('tenant', '=', tenant);

  async function find(tenant: string, id: string): Promise<StoredFile | null> {
    return (await rows(tenant).where('id', '=', id).executeTakeFirst()) ?? null;
  }

  async function discardUnused(hashes: readonly (string | null)[]): Promise<void> {
    const used = await usedHashes(db);
    for (const hash of hashes) if (hash !== null && !used.has(hash)) await bytes.discard(hash);
  }

  const release = (hashes: readonly (string | null)[]) => alone(() => discardUnused(hashes));

  /** Runs alone, so that no release comes between the bytes and their row. */
  async function add(
    tenant: string,
    filename: string,
    purpose: FilePurpose,
    content: AsyncIterable<Uint8Array>,
  ): Promise<TrainingFile> {
    const { hash, sizeBytes, numLines } = await bytes.put(content);
    // A job's log is not the tenant's doing.
    if (purpose === 'fine-tune')
      try {
        await checkQuota(tenant, 'bytes', sizeBytes);
      } catch (error) {
        await discardUnused([hash]);
        throw error;
      }
    const row = {
      id: newId('file'),
      created_at: Math.floor(clock() / 1000),
      tenant,
      hash,
      filename,
      purpose,
      size_bytes: sizeBytes,
      num_lines: numLines,
    };
    await db.insertInto('training_files').values(row).execute();
    return toFile(row);
  }

  function filesOf(tenant: string): TrainingFiles {
    return {
      add: (filename, purpose, content) => alone(() => add(tenant, filename, purpose, content)),
      async get(id) {
        const row = await find(tenant, id);
        return row === null ? null : toFile(row);
      },
      async list(request) {
        const seq = await seqAfter(request.after, async (id) => (await find(tenant, id)) ?? undefined);
        const { purpose, order } = request;
        let query = rows(tenant).orderBy('seq', order);
        if (seq !== null) query = query.where('seq', order === 'asc' ? '>' : '<', seq);
        if (purpose !== null) query = query.where('purpose', '=', purpose);
        return pageOf(request, (limit) => query.limit(limit).execute(), toFile);
      },
      async read(id) {
        const row = await find(tenant, id);
        if (row === null) return null;
        const content = Readable.toWeb(createReadStream(bytes.pathOf(row.hash)));
        return { file: toFile(row), content: content as ReadableStream<Uint8Array> };
      },
      async remove(id) {
        const row = await db
          .deleteFrom('training_files')
          .where('tenant', '=', tenant)
          .where('id', '=', id)
          .returning('hash')
          .executeTakeFirst();
        if (row !== undefined) await release([row.hash]);
        return row !== undefined;
      },
    };
  }

  return {
    of: filesOf,
    find,
    release,
    whileKept: alone,
    pathOf: (hash) => bytes.pathOf(hash),
    sweep: async () => {
      const used = await usedHashes(db);
      await bytes.sweep((hash) => used.has(hash), SWEEP_GRACE_MS, clock());
    },
  };
}

async function usedHashes(db: TrainingDatabase): Promise<ReadonlySet<string>> {
  const files = await db.selectFrom('training_files').select('hash').execute();
  const jobs = await db
    .selectFrom('training_jobs')
    .select(['training_hash', 'validation_hash'])
    .where('status', 'in', ['queued', 'running', 'paused'])
    .execute();
  const hashes = jobs.flatMap((job) => [job.training_hash, job.validation_hash ?? '']);
  return new Set([...files.map((file) => file.hash), ...hashes]);
}

function toFile(row: Omit<StoredFile, 'seq'>): TrainingFile {
  return {
    id: row.id,
    filename: row.filename,
    // Written by add() and by nobody else.
    purpose: row.purpose as FilePurpose,
    sizeBytes: row.size_bytes,
    createdAt: row.created_at,
  };
}
