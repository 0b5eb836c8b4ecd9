// Typed reading of the key-value pairs that describe a checkpoint: a config.json's or a GGUF header's.
// It knows types and how to complain, not what the keys mean.

import { GatewayError } from '../errors.js';

export class Fields {
  /** The file's name, for messages. */
  readonly file: string;
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(file: string, values: ReadonlyMap<string, unknown>) {
    this.file = file;
    this.#values = values;
  }

  /** Of a parsed JSON object. Throws invalid_file for anything else. */
  static ofJson(file: string, value: unknown): Fields {
    if (!isObject(value))
      throw new GatewayError('invalid_file', `${file}: Expected a JSON object, got ${show(value)}`, {
        param: file,
      });
    return new Fields(file, new Map(Object.entries(value)));
  }

  keys(): Iterable<string> {
    return this.#values.keys();
  }

  /** The value, or null where it is absent or null. */
  get(key: string): unknown {
    return this.#values.get(key) ?? null;
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** A whole number of at least 1; `fallback` where it is absent, else invalid_file. */
  count(key: string, fallback?: number): number {
    const value = this.get(key) ?? fallback ?? null;
    if (Number.isSafeInteger(value) && (value as number) >= 1) return value as number;
    throw this.invalid(key, 'a whole number of at least 1');
  }

  /** A finite number above 0. */
  positive(key: string, fallback?: number): number {
    const value = this.get(key) ?? fallback ?? null;
    if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
    throw this.invalid(key, 'a number above 0');
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.get(key) ?? fallback;
    if (typeof value === 'boolean') return value;
    throw this.invalid(key, 'true or false');
  }

  text(key: string, fallback?: string): string {
    const value = this.get(key) ?? fallback ?? null;
    if (typeof value === 'string') return value;
    throw this.invalid(key, 'a string');
  }

  /** A nested object, or null. */
  object(key: string): Fields | null {
    const value = this.get(key);
    if (value === null) return null;
    if (!isObject(value)) throw this.invalid(key, 'an object');
    return new Fields(`${this.file}: ${key}`, new Map(Object.entries(value)));
  }

  /** A token id or a list of them; empty where it is absent. */
  tokenIds(key: string): readonly number[] {
    const value = this.get(key);
    const ids: unknown[] = value === null ? [] : Array.isArray(value) ? value : [value];
    if (!ids.every((id) => Number.isSafeInteger(id) && (id as number) >= 0))
      throw this.invalid(key, 'a token id or a list of token ids');
    return ids as number[];
  }

  /** The file is malformed: this key holds no such thing. */
  invalid(key: string, expected: string): GatewayError {
    return new GatewayError(
      'invalid_file',
      `${this.file}: Expected \`${key}\` to be ${expected}, got ${show(this.#values.get(key))}`,
      { param: this.file },
    );
  }

  /** The file is well-formed, but says something that this product does not compute. */
  unsupported(key: string, supported: string): GatewayError {
    return new GatewayError(
      'unsupported_model',
      `${this.file}: \`${key}\` ${show(this.get(key))} is not supported; supported: ${supported}`,
      { param: this.file },
    );
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  return (JSON.stringify(value) ?? typeof value).slice(0, 120);
}
