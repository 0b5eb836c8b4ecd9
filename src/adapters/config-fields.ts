// Typed access to the keys of adapter_config.json, with PEFT's defaults where a key is absent. Knows no methods and no tensors.

import { parseStrictJson } from '../formats/strict-json.js';
import { baseMismatch, invalidAdapter } from './refusal.js';
import { CONFIG_FILE } from './adapter-files.js';

export type ConfigFields = Readonly<Record<string, unknown>>;

/** Parses the file. Throws invalid_adapter where it is no JSON object. */
export function parseConfigFields(bytes: Uint8Array): ConfigFields {
  let value: unknown;
  try {
    value = parseStrictJson(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalidAdapter(`${CONFIG_FILE} is not valid JSON: ${String(cause)}`, CONFIG_FILE, cause);
  }
  if (!isRecord(value))
    throw invalidAdapter(`Expected ${CONFIG_FILE} to hold an object, got ${valueText(value)}`, CONFIG_FILE);
  return value;
}

export function flagField(fields: ConfigFields, key: string): boolean {
  const value = fields[key] ?? false;
  if (typeof value !== 'boolean') throw expected(key, 'true or false', value);
  return value;
}

export function numberField(fields: ConfigFields, key: string, fallback: number): number {
  return checkNumber(key, fields[key] ?? fallback);
}

/** A positive integer. */
export function countField(fields: ConfigFields, key: string, fallback: number): number {
  return checkCount(key, fields[key] ?? fallback);
}

function optionalCountField(fields: ConfigFields, key: string): number | null {
  return (fields[key] ?? null) === null ? null : checkCount(key, fields[key]);
}

/** What the configuration says of the base's sizes, where it says so. Throws adapter_base_mismatch. */
export function checkBaseSizes(fields: ConfigFields, sizes: Readonly<Record<string, number>>): void {
  for (const [key, size] of Object.entries(sizes)) {
    const found = optionalCountField(fields, key);
    if (found !== null && found !== size)
      throw baseMismatch(
        `${CONFIG_FILE}: \`${key}\` is ${found}, the base has ${size}; this adapter was trained on another model`,
        key,
      );
  }
}

/** A string is kept as it is (PEFT reads it as a regular expression), a list must hold strings; null and an absent key are null. */
export function namesField(fields: ConfigFields, key: string): string | readonly string[] | null {
  const value = fields[key] ?? null;
  if (value === null || typeof value === 'string') return value;
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
  throw expected(key, 'a string, a list of strings or null', value);
}

/** A layer number or a list of them; null, an absent key and an empty list are null. */
export function layersField(fields: ConfigFields, key: string): readonly number[] | null {
  const value = fields[key] ?? null;
  const list: unknown[] | null = value === null ? null : Array.isArray(value) ? value : [value];
  if (list === null || list.length === 0) return null;
  if (
    !list.every((item): item is number => typeof item === 'number' && Number.isSafeInteger(item) && item >= 0)
  )
    throw expected(key, 'a layer number or a list of them', value);
  return list;
}

/** Pattern -> number, in the file's order. */
export function patternField(
  fields: ConfigFields,
  key: string,
  kind: 'count' | 'number',
): readonly (readonly [string, number])[] {
  const value = fields[key] ?? {};
  if (!isRecord(value)) throw expected(key, 'an object of pattern: number', value);
  const check = kind === 'count' ? checkCount : checkNumber;
  return Object.entries(value).map(([pattern, item]) => [pattern, check(`${key}.${pattern}`, item)] as const);
}

/** null, false, {} and []: the value of a key that is switched off. */
export function isNeutral(value: unknown): boolean {
  if (value === null || value === undefined || value === false) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** A value for a message, cut to a readable length. */
export function valueText(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

function checkNumber(key: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw expected(key, 'a finite number', value);
  return value;
}

function checkCount(key: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1)
    throw expected(key, 'a positive integer', value);
  return value;
}

function expected(key: string, what: string, value: unknown) {
  return invalidAdapter(`${CONFIG_FILE}: Expected \`${key}\` to be ${what}, got ${valueText(value)}`, key);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
