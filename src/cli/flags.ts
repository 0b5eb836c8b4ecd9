// Commander's flags from the option table, and back: what the command line said, as text by option key.
// Values are checked in read-config.ts, so that all problems can be told at once.
import { Option as Flag, type Command as Program } from 'commander';
import { envName, flagName, OPTIONS, type OptionKey } from '../config.js';
import { nearest } from './nearest.js';
import { fallbackText, placeholder } from './option-value.js';
import type { Command, Option } from './options/option.js';
import { CONFIG_ENV, optionsOf } from './read-config.js';

const CONFIG_HELP = 'read options from a JSON file; its keys are the flags without dashes';

/** Adds the command's options, and lets unknown words through to readFlags. */
export function addFlags(program: Program, command: Command): Program {
  for (const key of optionsOf(command)) program.addOption(flagOf(key));
  program.option('--config <FILE>', `${CONFIG_HELP} (env: ${CONFIG_ENV})`);
  return program.allowUnknownOption().allowExcessArguments().showSuggestionAfterError(false);
}

export interface ParsedFlags {
  readonly flags: Readonly<Record<string, unknown>>;
  readonly file: string | null;
  /** Unknown flags and superfluous words. */
  readonly problems: readonly string[];
}

/** What was said for `command`; `numArguments` positional words are expected. */
export function readFlags(program: Program, command: Command, numArguments: number): ParsedFlags {
  const said: Readonly<Record<string, unknown>> = program.opts();
  const flags = optionsOf(command).map((key) => [key, said[camelCase(flagName(key))]] as const);
  return {
    flags: Object.fromEntries(flags.filter(([, value]) => value !== undefined)),
    file: typeof said['config'] === 'string' ? said['config'] : null,
    problems: strayWords(program.args, command, numArguments),
  };
}

function flagOf(key: OptionKey): Flag {
  const option: Option = OPTIONS[key];
  const bare = option.kind === 'switch' && option.bare === true;
  const value = bare ? `[${placeholder(option)}]` : `<${placeholder(option)}>`;
  const flag = new Flag(`--${flagName(key)} ${value}`, describe(key));
  if (option.kind === 'pairs')
    flag.argParser((text: string, before: readonly string[] | undefined) => [...(before ?? []), text]);
  return flag;
}

function describe(key: OptionKey): string {
  const option: Option = OPTIONS[key];
  const fallback = fallbackText(option);
  const range = option.kind === 'integer' ? [`${option.min} to ${option.max}`] : [];
  const facts = [...range, `default: ${fallback}`, `env: ${envName(key)}`];
  return `${option.help} (${facts.join(', ')})`;
}

/** An unknown flag takes the words after it along, which are then no problem of their own. */
function strayWords(words: readonly string[], command: Command, numArguments: number): string[] {
  const known = [...optionsOf(command).map((key) => `--${flagName(key)}`), '--config', '--help'];
  const unknown = words.filter((word) => word.startsWith('-') && word !== '-');
  if (unknown.length > 0)
    return unknown.map((word) => {
      const name = word.split('=')[0]!;
      return `Unknown flag ${name}${nearest(name, known)}`;
    });
  return words.slice(numArguments).map((word) => `Unexpected word \`${word}\``);
}

function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
