// What every command is made with: its action, its settings, the examples in its help.
import type { Command as Program } from 'commander';
import type { ConfigOf } from '../config.js';
import { readFlags } from './flags.js';
import type { Command } from './options/option.js';
import { readConfig } from './read-config.js';
import type { Main } from './serve.js';
import type { Terminal } from './terminal.js';

/** Gives the exit code. */
export type Action = (command: Program, terminal: Terminal, loadMain: LoadMain) => Promise<number>;
export type LoadMain = () => Promise<Main>;

/** The command's settings; `numArguments` positional words are expected. Throws invalid_config. */
export function configOf<C extends Command>(
  name: C,
  command: Program,
  numArguments: number,
  { env, cwd }: Terminal,
): ConfigOf<C> {
  return readConfig(name, { ...readFlags(command, name, numArguments), env, cwd });
}

export function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}
