// How much memory this process may have: the machine's, or less where a container's limit says so.
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';

const V2_ROOT = '/sys/fs/cgroup';
const V1_ROOT = '/sys/fs/cgroup/memory';

/** The text of a file, or null where it is not there. */
export type ReadText = (path: string) => string | null;

/** Bytes. cgroups nest: the tightest limit on the way from the process's own group to the root counts. */
export function memoryLimit(total: number = totalmem(), read: ReadText = readIfThere): number {
  const limits = (read('/proc/self/cgroup') ?? '').split('\n').flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined) return [];
    if (controllers === '') return limitsOnTheWay(V2_ROOT, path, 'memory.max', read);
    return controllers!.split(',').includes('memory')
      ? limitsOnTheWay(V1_ROOT, path, 'memory.limit_in_bytes', read)
      : [];
  });
  return Math.min(total, ...limits);
}

/** In a container, the group's own folder is often mounted as the root. */
function limitsOnTheWay(root: string, path: string, file: string, read: ReadText): number[] {
  const parts = path.split('/').filter(Boolean);
  return Array.from({ length: parts.length + 1 }, (_, depth) =>
    read([root, ...parts.slice(0, depth), file].join('/')),
  )
    .map((text) => (text === null || text.trim() === 'max' ? Number.NaN : Number(text.trim())))
    .filter((limit) => Number.isFinite(limit) && limit > 0);
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
