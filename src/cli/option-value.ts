// One option's value: from text or JSON to its type, and how it is written for people. It does not know where a value stood.
import { resolve } from 'node:path';
import { assert } from '../errors.js';
import type { NamedPath, Option } from './options/option.js';

export type OptionValue = number | string | boolean | null | readonly NamedPath[];

/** What was wrong, as in "an integer from 1 to 256": the tail of "Expected `slots` to be ...". */
export class BadValue extends Error {
  override readonly name = 'BadValue';
}

/** `value` is text (flag, environment), a list of texts (repeated flag), or any JSON value (file). Throws BadValue. */
export function parseValue(option: Option, value: unknown, cwd: string): OptionValue {
  switch (option.kind) {
    case 'integer':
      return parseInteger(value, option.min, option.max);
    case 'choice': {
      const chosen = option.choices.find((choice) => choice === value);
      if (chosen === undefined) throw new BadValue(expectation(option));
      return chosen;
    }
    case 'switch':
      if (value === 'on' || value === true) return true;
      if (value === 'off' || value === false) return false;
      throw new BadValue(expectation(option));
    case 'text':
    case 'path':
      if (typeof value !== 'string' || value.trim() === '') throw new BadValue(expectation(option));
      return option.kind === 'path' ? resolve(cwd, value) : value;
    case 'pairs':
      return parsePairs(option, value, cwd);
  }
}

/** "an integer from 1 to 256", "q4, q8 or f32". */
export function expectation(option: Option): string {
  switch (option.kind) {
    case 'integer':
      return `an integer from ${option.min} to ${option.max}`;
    case 'choice':
      return `${option.choices.slice(0, -1).join(', ')} or ${option.choices.at(-1)}`;
    case 'switch':
      return 'on or off';
    case 'text':
      return 'text that is not empty';
    case 'path':
      return 'a path';
    case 'pairs':
      return 'NAME=PATH, each name once';
  }
}

/** What stands after the flag: "N", "q4|q8|f32", "NAME=PATH". */
export function placeholder(option: Option): string {
  switch (option.kind) {
    case 'integer':
      return 'N';
    case 'choice':
      return option.choices.join('|');
    case 'switch':
      return 'on|off';
    default:
      return option.placeholder;
  }
}

/** The default for people. */
export function fallbackText(option: Option): string {
  const { fallback } = option;
  if (option.fallbackWords !== undefined) return option.fallbackWords;
  assert(typeof fallback !== 'function', 'a computed default needs words');
  if (fallback === null) return 'none';
  if (typeof fallback === 'boolean') return fallback ? 'on' : 'off';
  if (typeof fallback === 'object') return 'none';
  return String(fallback);
}

export function fallbackValue(option: Option, cwd: string): OptionValue {
  const { fallback } = option;
  if (typeof fallback === 'function') return fallback();
  return option.kind === 'path' && typeof fallback === 'string' ? resolve(cwd, fallback) : fallback;
}

function parseInteger(value: unknown, min: number, max: number): number {
  const number = typeof value === 'string' && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
  if (typeof number === 'number' && Number.isSafeInteger(number) && number >= min && number <= max)
    return number;
  throw new BadValue(`an integer from ${min} to ${max}`);
}

/** A list of NAME=PATH, one text with commas between them, or an object name -> path. */
function parsePairs(option: Option, value: unknown, cwd: string): readonly NamedPath[] {
  const items: unknown[] = Array.isArray(value) ? value : typeof value === 'string' ? value.split(',') : [];
  if (items.length === 0 && !isRecord(value)) throw new BadValue(expectation(option));
  const entries: (readonly [unknown, unknown])[] = isRecord(value)
    ? Object.entries(value)
    : items.map(splitPair);
  const pairs = entries.map(([name, path]) => {
    if (typeof name !== 'string' || typeof path !== 'string' || name === '' || path === '')
      throw new BadValue(expectation(option));
    return Object.freeze({ name, path: resolve(cwd, path) });
  });
  if (new Set(pairs.map(({ name }) => name)).size < pairs.length) throw new BadValue(expectation(option));
  return Object.freeze(pairs);
}

function splitPair(item: unknown): readonly [unknown, unknown] {
  if (typeof item !== 'string' || !item.includes('=')) return [null, null];
  const at = item.indexOf('=');
  return [item.slice(0, at), item.slice(at + 1)];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
