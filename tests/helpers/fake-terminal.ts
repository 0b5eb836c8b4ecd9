// A terminal of strings: what a command read and wrote, and interrupts by hand.
import { PassThrough, Writable } from 'node:stream';
import type { Output, Terminal } from '../../src/cli/terminal.js';

export interface FakeTerminal extends Terminal {
  readonly stdin: PassThrough;
  out(): string;
  err(): string;
  interrupt(): void;
  /** Resolves once stdout holds the text. */
  outHas(text: string): Promise<void>;
}

export function fakeTerminal(env: Record<string, string> = {}, cwd = '/work-folder'): FakeTerminal {
  const listeners = new Set<() => void>();
  const watchers = new Set<() => void>();
  const stdout = collector(() => watchers.forEach((watch) => watch()));
  const stderr = collector(() => undefined);
  return {
    stdin: new PassThrough(),
    stdout: stdout.stream,
    stderr: stderr.stream,
    env,
    cwd,
    out: () => stdout.text(),
    err: () => stderr.text(),
    onInterrupt(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    interrupt: () => listeners.forEach((listener) => listener()),
    outHas: (text) =>
      new Promise((resolve) => {
        const watch = () => {
          if (!stdout.text().includes(text)) return;
          watchers.delete(watch);
          resolve();
        };
        watchers.add(watch);
        watch();
      }),
  };
}

export function collector(onWrite: () => void = () => undefined): { stream: Output; text(): string } {
  let text = '';
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string | Buffer, _encoding, done) {
      text += chunk.toString();
      onWrite();
      done();
    },
  });
  return { stream, text: () => text };
}
