// One key's value: its kind, and from YAML's value or a command line's text to that kind. It does not know where a value stood.
import { BadValue } from '../option-value.js';

/** Inclusive `min` and `max`, exclusive `above` and `below`. */
export interface Range {
  readonly min?: number;
  readonly max?: number;
  readonly above?: number;
  readonly below?: number;
}

/** What a key takes; null (or no value) is the fallback. */
export type ValueKind =
  /** `orTrue`: true is the text "true", and false is no value. */
  | { readonly kind: 'text'; readonly fallback: string | null; readonly orTrue?: true }
  | ({ readonly kind: 'integer'; readonly fallback: number | null } & Range)
  | ({ readonly kind: 'number'; readonly fallback: number | null } & Range)
  | { readonly kind: 'switch'; readonly fallback: boolean | null }
  | {
      readonly kind: 'choice';
      readonly choices: readonly string[];
      readonly fallback: string | null;
      /** Values that are known but not computed: why, and what comes nearest. */
      readonly refused?: Readonly<Record<string, string>>;
    }
  /** A list, or one text with commas between the names. */
  | { readonly kind: 'names'; readonly fallback: readonly string[] | null }
  /** A list of texts; commas are part of a text. */
  | { readonly kind: 'texts'; readonly fallback: readonly string[] | null };

export type KeyValue = string | number | boolean | readonly string[] | null;

/** A value that is known and not computed; the message is the whole sentence behind the value. */
export class RefusedValue extends Error {
  override readonly name = 'RefusedValue';
}

const TRUE = [true, 'true', 'yes', 'on', '1', 1];
const FALSE = [false, 'false', 'no', 'off', '0', 0];

/** `value` is what YAML gave: YAML 1.1's spellings of numbers and switches count too. Throws BadValue or RefusedValue. */
export function readValue(kind: ValueKind, value: unknown): KeyValue {
  if (value === null || value === undefined || value === '') return kind.fallback;
  switch (kind.kind) {
    case 'text':
      if (typeof value === 'string' || typeof value === 'number') return String(value).trim();
      if (typeof value === 'boolean' && kind.orTrue === true) return value ? 'true' : kind.fallback;
      break;
    case 'integer':
    case 'number': {
      const number = readNumber(value);
      if (number !== null && isInRange(number, kind) && (kind.kind === 'number' || Number.isInteger(number)))
        return number;
      break;
    }
    case 'switch': {
      const word = typeof value === 'string' ? value.toLowerCase() : value;
      if (TRUE.some((spelling) => spelling === word)) return true;
      if (FALSE.some((spelling) => spelling === word)) return false;
      break;
    }
    case 'choice':
      return readChoice(kind, value);
    case 'names':
    case 'texts': {
      const items = readList(value, kind.kind === 'names');
      if (items !== null) return items;
      break;
    }
  }
  throw new BadValue(valueWords(kind));
}

/** "a whole number of at least 1", "pt, sft or dpo". */
export function valueWords(kind: ValueKind): string {
  switch (kind.kind) {
    case 'text':
      return kind.orTrue === true ? 'text, true or false' : 'text';
    case 'integer':
      return ['a whole number', rangeWords(kind)].filter(Boolean).join(' ');
    case 'number':
      return ['a number', rangeWords(kind)].filter(Boolean).join(' ');
    case 'switch':
      return 'true or false';
    case 'choice':
      return joinOr(kind.choices);
    case 'names':
      return 'names with commas between them';
    case 'texts':
      return 'a list of texts';
  }
}

function readNumber(value: unknown): number | null {
  const number = typeof value === 'string' && /^[-+.\d]/.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? number : null;
}

function isInRange(value: number, { min, max, above, below }: Range): boolean {
  return (
    (min === undefined || value >= min) &&
    (max === undefined || value <= max) &&
    (above === undefined || value > above) &&
    (below === undefined || value < below)
  );
}

/** YAML 1.1 reads a bare `no` as false, and a list of one name is that name. */
function readChoice(kind: Extract<ValueKind, { kind: 'choice' }>, value: unknown): string {
  const single = Array.isArray(value) && value.length === 1 ? (value[0] as unknown) : value;
  const word = single === false ? 'no' : String(single).toLowerCase();
  if (kind.choices.includes(word)) return word;
  const reason = Object.hasOwn(kind.refused ?? {}, word) ? kind.refused?.[word] : undefined;
  if (reason !== undefined) throw new RefusedValue(reason);
  throw new BadValue(valueWords(kind));
}

function readList(value: unknown, splits: boolean): readonly string[] | null {
  const items: unknown[] = Array.isArray(value)
    ? value
    : splits && typeof value === 'string'
      ? value.split(',')
      : [value];
  if (!items.every((item) => typeof item === 'string' || typeof item === 'number')) return null;
  const texts = items.map((item) => (splits ? String(item).trim() : String(item)));
  return texts.some((text) => text === '') ? null : texts;
}

function rangeWords({ min, max, above, below }: Range): string {
  return [
    min === undefined ? '' : `of at least ${min}`,
    above === undefined ? '' : `above ${above}`,
    max === undefined ? '' : `at most ${max}`,
    below === undefined ? '' : `below ${below}`,
  ]
    .filter(Boolean)
    .join(' and ');
}

function joinOr(words: readonly string[]): string {
  return words.length === 1 ? words[0]! : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}
