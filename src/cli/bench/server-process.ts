// The server under test as a process of its own, so that the load client does not share its event loop.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileKey, type Config, type ConfigOf } from '../../config.js';
import { assert, GatewayError } from '../../errors.js';
import { optionsOf } from '../read-config.js';
import { readMetrics, sumOf } from './metrics-text.js';

export interface ServerProcess {
  readonly url: string;
  /** From the start of the process until it listened, in milliseconds. */
  readonly readyMs: number;
  /** Resident memory right after that, in bytes. */
  readonly rssBytes: number;
  stop(): Promise<void>;
}

type Shared = keyof Config & keyof ConfigOf<'bench'>;

/** Runs `serve` of this same program. Throws unavailable where it ends before it listens. */
export async function startServerProcess(
  config: Config,
  env: Readonly<Record<string, string | undefined>>,
  apiKey: string | null = null,
): Promise<ServerProcess> {
  const entry = process.argv[1];
  assert(entry !== undefined, 'the program was started from a file');
  const startMs = performance.now();
  const child = spawn(
    process.execPath,
    // It would merge while another server is measured.
    [
      ...process.execArgv,
      entry,
      'serve',
      '--port',
      '0',
      '--log-level',
      'warn',
      '--merge',
      'off',
      ...serveFlags(config),
    ],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: withoutOwnOptions(env),
      // A group of its own: an interrupt at the keyboard reaches the bench, which tidies up and then stops the server.
      detached: process.platform !== 'win32',
    },
  );
  const stop = () => stopProcess(child);
  try {
    const url = await listeningUrl(child);
    const readyMs = performance.now() - startMs;
    const rssBytes = sumOf(await readMetrics(url, apiKey), 'process_resident_memory_bytes');
    return { url, readyMs, rssBytes, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The options that `bench` shares with `serve`, as flags. */
export function serveFlags(config: Config): readonly string[] {
  const served = new Set(optionsOf('serve'));
  return optionsOf('bench')
    .filter((key): key is Shared => served.has(key))
    .flatMap((key) => {
      const value = config[key];
      if (value === null) return [];
      return [`--${fileKey(key)}`, flagText(value)];
    });
}

function flagText(value: string | number | boolean): string {
  return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
}

/** Everything that holds is in the flags. */
function withoutOwnOptions(env: Readonly<Record<string, string | undefined>>): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('GRAFT_')));
}

async function listeningUrl(child: ChildProcess): Promise<string> {
  assert(child.stdout !== null, 'stdout is a pipe');
  for await (const line of createInterface(child.stdout)) {
    const url = /^listening on (\S+)/.exec(line)?.[1];
    if (url !== undefined) return url;
  }
  throw new GatewayError('unavailable', 'The server ended before it listened; its messages are above');
}

async function stopProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}
