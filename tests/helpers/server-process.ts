// The command line as a child process, and `serve` in one, over a tiny reference base on a free port.
import assert from 'node:assert/strict';
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { BASE_FOLDER, type Cleanup } from './running-server.js';

const ROOT = join(import.meta.dirname, '..', '..');

export type CliProcess = ChildProcessByStdio<null, Readable, Readable>;

/** Starts the command line from its sources; killed after the test where it still runs. */
export function spawnCli(cleanup: Cleanup, args: readonly string[]): CliProcess {
  const child = spawn(process.execPath, ['--import', 'tsx', join(ROOT, 'src', 'cli.ts'), ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const gone = once(child, 'close');
  cleanup.after(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  return child;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end. */
export async function runCli(cleanup: Cleanup, args: readonly string[]): Promise<Ended> {
  const child = spawnCli(cleanup, args);
  const [stdout, stderr, [code, signal]] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    once(child, 'close'),
  ]);
  return { code, signal, stdout, stderr };
}

export interface ServerProcess {
  readonly url: string;
  /** Lines of standard output so far. */
  readonly lines: readonly string[];
  /** All of standard error, once it has ended. */
  readonly stderr: Promise<string>;
  /** Sends the signal and waits for the end: [exit code, signal]. */
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<[number | null, string | null]>;
}

/** `serve` until it says where it listens. */
export async function spawnServer(
  cleanup: Cleanup,
  dataDir: string,
  flags: readonly string[] = [],
): Promise<ServerProcess> {
  const own = ['serve', '--model', BASE_FOLDER, '--weights', 'f32', '--threads', '1', '--port', '0'];
  const child = spawnCli(cleanup, [...own, '--data-dir', dataDir, ...flags]);
  const exited = once(child, 'exit');
  const stderr = textOf(child.stderr);
  const lines: string[] = [];
  const output = createInterface({ input: child.stdout });
  output.on('line', (line) => lines.push(line));
  await Promise.race([once(output, 'line'), once(output, 'close')]);
  const url = /^listening on (http:\/\/\S+)$/.exec(lines[0] ?? '')?.[1];
  assert(url !== undefined, `it said where it listens, got ${JSON.stringify(lines)}`);
  return {
    url,
    lines,
    stderr,
    end: async (signal) => {
      child.kill(signal);
      const [code, endedBy] = await exited;
      return [code, endedBy];
    },
  };
}

async function textOf(stream: Readable): Promise<string> {
  let text = '';
  for await (const part of stream.setEncoding('utf8')) text += String(part);
  return text;
}
