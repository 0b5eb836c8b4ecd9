// Keeps special tokens that somebody wrote into a message from becoming special tokens of the prompt.
// Before a template is rendered, a mark (a private-use character that occurs nowhere else) is put inside every special token's literal in the
// message's strings; the rendered prompt is split at the special tokens that are left, the template's own, and the marks are taken out of the text.

import { GatewayError } from '../errors.js';
import { type TextMarks } from './jinja-interpreter.js';
import { countWork, runSteps, type Steps, TEXT_PER_STEP } from './steps.js';

const FIRST_MARK = 0xf8ff;
const LAST_MARK = 0xe000;
/** What a string costs beside its characters, in characters. */
const WORK_PER_STRING = 64;

export interface ProtectedText extends TextMarks {
  /** The value with every string in it marked, in keys only whole literals (templates look keys up); other values as they are. */
  markAll(value: unknown): Steps<unknown>;
  restore(text: string): Steps<string>;
}

/** What the literals of special tokens look like; made once for a tokenizer. */
export class SpecialLiterals {
  /** Matches the first character of a literal. */
  readonly #starts: RegExp | null;
  readonly #prefixes = new Set<string>();
  readonly #longest: number;

  constructor(literals: readonly string[]) {
    const pattern = literalPattern(literals);
    this.#starts = pattern === null ? null : new RegExp(`(?=${pattern.source})[^]`, 'g');
    for (const literal of literals)
      for (let end = 1; end < literal.length; end++) this.#prefixes.add(literal.slice(0, end));
    this.#longest = literals.reduce((longest, literal) => Math.max(longest, literal.length), 0);
  }

  /** Marks for one rendering of `template` over `inputs`. */
  *protect(template: string, inputs: unknown): Steps<ProtectedText> {
    const mark = yield* unusedMark([template, ...(yield* stringsIn(inputs))]);
    const markText = (text: string) => this.#markText(text, mark);
    const markKey = (key: string) => this.#markLiterals(key, mark);
    return {
      isMarked: (text) => text.includes(mark),
      mark: (text) => runSteps(markText(text)),
      markAll: (value) => mapStrings(value, markText, markKey, countWork(TEXT_PER_STEP)),
      restore: function* (text) {
        return yield* without(yield* without(text, mark), markEscape(mark));
      },
    };
  }

  /** Marks whole literals, and at the end of the text beginnings of one, which what follows in the prompt might complete. */
  *#markText(text: string, mark: string): Steps<string> {
    const end = text.trimEnd().length;
    const from = Math.max(0, end - this.#longest);
    let tail = text.slice(end);
    for (let start = end - 1; start >= from; start--) {
      const begins = this.#prefixes.has(text.slice(start, end));
      tail = text.charAt(start) + (begins ? mark : '') + tail;
    }
    return yield* this.#markLiterals(text.slice(0, from) + tail, mark);
  }

  /** A mark after the first character wherever a literal begins, inside another one too. */
  *#markLiterals(text: string, mark: string): Steps<string> {
    if (this.#starts === null) return text;
    let marked = '';
    for (let start = 0; start < text.length; start += TEXT_PER_STEP) {
      if (start > 0) yield;
      const slice = text.slice(start, start + TEXT_PER_STEP);
      // What begins in the slice may end behind it.
      const ahead = text.slice(start + TEXT_PER_STEP, start + TEXT_PER_STEP + this.#longest);
      const both = (slice + ahead).replace(this.#starts, (first, at: number) =>
        at < slice.length ? first + mark : first,
      );
      marked += both.slice(0, both.length - ahead.length);
    }
    return marked;
  }
}

/** Matches the longest literal at a place; null where there are none. */
export function literalPattern(literals: readonly string[]): RegExp | null {
  if (literals.length === 0) return null;
  const sources = literals
    .toSorted((a, b) => b.length - a.length)
    .map((literal) => literal.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&'));
  return new RegExp(sources.join('|'), 'g');
}

/** How JSON with ensure_ascii writes the mark. */
function markEscape(mark: string): string {
  return `\\u${mark.charCodeAt(0).toString(16)}`;
}

function* unusedMark(texts: readonly string[]): Steps<string> {
  for (let code = FIRST_MARK; code >= LAST_MARK; code--) {
    const mark = String.fromCharCode(code);
    if (!(yield* isIn(texts, mark)) && !(yield* isIn(texts, markEscape(mark)))) return mark;
  }
  throw new GatewayError(
    'invalid_value',
    'The messages use every private-use character (U+E000..U+F8FF); leave one out',
    {
      param: 'messages',
    },
  );
}

function* isIn(texts: readonly string[], part: string): Steps<boolean> {
  const isDue = countWork(TEXT_PER_STEP);
  for (const text of texts) {
    if (text.includes(part)) return true;
    if (isDue(WORK_PER_STRING + text.length)) yield;
  }
  return false;
}

/** The text without each `part`, whose first character is nowhere else in it. */
function* without(text: string, part: string): Steps<string> {
  let kept = '';
  for (let start = 0, end; start < text.length; start = end) {
    if (start > 0) yield;
    end = start + TEXT_PER_STEP;
    const across = text.slice(end - part.length + 1, end + part.length - 1).indexOf(part);
    if (across !== -1) end += across + 1;
    kept += text.slice(start, end).split(part).join('');
  }
  return kept;
}

function* stringsIn(inputs: unknown): Steps<string[]> {
  const isDue = countWork(TEXT_PER_STEP);
  const strings: string[] = [];
  const values = [inputs];
  while (values.length > 0) {
    const value = values.pop();
    if (isDue(WORK_PER_STRING)) yield;
    if (typeof value === 'string') strings.push(value);
    else if (Array.isArray(value)) for (const item of value) values.push(item);
    else if (typeof value === 'object' && value !== null)
      for (const entry of Object.entries(value)) values.push(...entry);
  }
  return strings;
}

function* mapStrings(
  value: unknown,
  map: (text: string) => Steps<string>,
  mapKey: (key: string) => Steps<string>,
  isDue: (work: number) => boolean,
): Steps<unknown> {
  if (typeof value === 'string') {
    if (isDue(WORK_PER_STRING + value.length)) yield;
    return yield* map(value);
  }
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) {
    const items: unknown[] = [];
    for (const item of value) items.push(yield* mapStrings(item, map, mapKey, isDue));
    return items;
  }
  const entries: [string, unknown][] = [];
  for (const [key, item] of Object.entries(value))
    entries.push([yield* mapKey(key), yield* mapStrings(item, map, mapKey, isDue)]);
  return Object.fromEntries(entries);
}
