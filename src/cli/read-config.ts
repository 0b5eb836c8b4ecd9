// Default < file < environment < flag, for one command: every value of every source is checked, and all problems are told
// at once, each with the value and the place where it stands. The options themselves are in config.ts.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { envName, fileKey, flagName, OPTIONS, type ConfigOf, type OptionKey } from '../config.js';
import { GatewayError } from '../errors.js';
import { parseRopeChoice, ROPE_CHOICE } from '../model/rope-choice.js';
import { nearest } from './nearest.js';
import { BadValue, fallbackValue, parseValue, type OptionValue } from './option-value.js';
import type { Command, Option } from './options/option.js';

export interface ConfigSources {
  /** Flags by option key: text, or a list of texts for a repeatable one. `true` is a flag without a value. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The value of --config. */
  readonly file: string | null;
  /** Relative paths start here. */
  readonly cwd: string;
  /** Problems of the command line that were found before: unknown flags and the like. */
  readonly problems?: readonly string[];
}

export const CONFIG_ENV = 'GRAFT_CONFIG';

/** Throws GatewayError invalid_config whose message has one problem a line. */
export function readConfig<C extends Command>(command: C, sources: ConfigSources): ConfigOf<C> {
  const problems = [...(sources.problems ?? []), ...unknownEnvironment(sources.env)];
  const file = readConfigFile(sources, problems);
  const given = new Map<string, OptionValue>();
  for (const key of optionsOf(command)) {
    const option: Option = OPTIONS[key];
    for (const [value, place] of [
      [file.values[fileKey(key)], `key ${fileKey(key)} in ${file.name}`],
      [sources.env[envName(key)] || undefined, `environment ${envName(key)}`],
      [sources.flags[key], `flag --${flagName(key)}`],
    ] as const) {
      if (value === undefined) continue;
      try {
        given.set(key, parseValue(option, value, sources.cwd));
      } catch (error) {
        if (!(error instanceof BadValue)) throw error;
        problems.push(`Expected \`${fileKey(key)}\` to be ${error.message}, got ${show(value)} (${place})`);
      }
    }
  }
  problems.push(...badCombinations(given));
  if (problems.length > 0) throw new GatewayError('invalid_config', problems.join('\n'));
  const entries = optionsOf(command).map((key) => [
    key,
    given.has(key) ? given.get(key) : fallbackValue(OPTIONS[key], sources.cwd),
  ]);
  // The table gives both this object and its type; parseValue keeps each kind to its type.
  return Object.freeze(Object.fromEntries(entries)) as ConfigOf<C>;
}

export function optionsOf(command: Command): readonly OptionKey[] {
  return allKeys().filter((key) => (OPTIONS[key] as Option).commands.includes(command));
}

export function allKeys(): readonly OptionKey[] {
  return Object.keys(OPTIONS) as OptionKey[];
}

/** What is wrong beyond the kind of a value. `given` holds only what some source said. */
function badCombinations(given: ReadonlyMap<string, OptionValue>): string[] {
  const problems: string[] = [];
  const allowed = given.get('allowRuntimeLora') === true;
  const folder = given.get('runtimeLoraDir');
  if (allowed && folder === undefined)
    problems.push(
      'Expected `runtime-lora-dir` to be given with `allow-runtime-lora` on: it bounds what may be loaded',
    );
  if (!allowed && folder !== undefined)
    problems.push(
      `Expected \`allow-runtime-lora\` to be on with \`runtime-lora-dir\` ${show(folder)}: nothing would be loaded from there`,
    );
  const rope = given.get('ropeScaling');
  if (typeof rope === 'string' && parseRopeChoice(rope) === null)
    problems.push(`Expected \`rope-scaling\` to be ${ROPE_CHOICE}, got ${show(rope)}`);
  const [chunk, context] = [given.get('prefillChunk'), given.get('context')];
  if (typeof chunk === 'number' && typeof context === 'number' && chunk > context)
    problems.push(`Expected \`prefill-chunk\` to be at most \`context\`, got ${chunk} and ${context}`);
  problems.push(...badExport(given));
  return problems;
}

function badExport(given: ReadonlyMap<string, OptionValue>): string[] {
  const problems: string[] = [];
  if (given.get('merged') !== true)
    for (const key of ['exportFormat', 'exportType'] as const)
      if (given.has(key))
        problems.push(
          `Expected \`merged\` to be on with \`${flagName(key)}\` ${show(given.get(key))}: the adapter itself is written as it is stored`,
        );
  if (given.get('exportType') === 'q8_0' && given.get('exportFormat') !== 'gguf')
    problems.push('Expected `format` to be gguf with `type` q8_0: safetensors hold f32, f16 or bf16');
  return problems;
}

function readConfigFile(
  sources: ConfigSources,
  problems: string[],
): { name: string; values: Readonly<Record<string, unknown>> } {
  const name = sources.file ?? (sources.env[CONFIG_ENV] || null);
  if (name === null) return { name: 'no file', values: {} };
  const values = parseConfigFile(resolve(sources.cwd, name), name, problems);
  const known = allKeys().map(fileKey);
  for (const key of Object.keys(values))
    if (!known.includes(key)) problems.push(`Unknown key \`${key}\` in ${name}${nearest(key, known)}`);
  return { name, values };
}

function parseConfigFile(path: string, name: string, problems: string[]): Readonly<Record<string, unknown>> {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    problems.push(`Expected the config file ${name} to be readable JSON: ${String(error)}`);
    return {};
  }
  if (typeof content === 'object' && content !== null && !Array.isArray(content)) return { ...content };
  problems.push(`Expected the config file ${name} to hold a JSON object, got ${show(content)}`);
  return {};
}

function unknownEnvironment(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = [...allKeys().map(envName), CONFIG_ENV];
  return Object.keys(env)
    .filter((name) => name.startsWith('GRAFT_') && !known.includes(name))
    .map((name) => `Unknown environment variable ${name}${nearest(name, known)}`);
}

function show(value: unknown): string {
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}
