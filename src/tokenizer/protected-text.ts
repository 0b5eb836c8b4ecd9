// Keeps special tokens that somebody wrote into a message from becoming special tokens of the prompt.
// Before a template is rendered, a mark (a private-use character that occurs nowhere else) is put inside every special token's literal in the
// message's strings; the rendered prompt is split at the special tokens that are left, the template's own, and the marks are taken out of the text.

import { GatewayError } from '../errors.js';
import { type TextMarks } from './jinja-interpreter.js';

const FIRST_MARK = 0xf8ff;
const LAST_MARK = 0xe000;

export interface ProtectedText extends TextMarks {
  /** The value with every string in it marked, in keys only whole literals (templates look keys up); other values as they are. */
  markAll(value: unknown): unknown;
  restore(text: string): string;
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
  protect(template: string, inputs: unknown): ProtectedText {
    const mark = unusedMark([template, ...stringsIn(inputs)].join('\n'));
    const escape = markEscape(mark);
    const markText = (text: string) => this.#markText(text, mark);
    return {
      isMarked: (text) => text.includes(mark),
      mark: markText,
      markAll: (value) => mapStrings(value, markText, (key) => this.#markLiterals(key, mark)),
      restore: (text) => text.replaceAll(mark, '').replaceAll(escape, ''),
    };
  }

  /** Marks whole literals, and at the end of the text beginnings of one, which what follows in the prompt might complete. */
  #markText(text: string, mark: string): string {
    const end = text.trimEnd().length;
    const from = Math.max(0, end - this.#longest);
    let tail = text.slice(end);
    for (let start = end - 1; start >= from; start--) {
      const begins = this.#prefixes.has(text.slice(start, end));
      tail = text.charAt(start) + (begins ? mark : '') + tail;
    }
    return this.#markLiterals(text.slice(0, from) + tail, mark);
  }

  /** A mark after the first character wherever a literal begins, inside another one too. */
  #markLiterals(text: string, mark: string): string {
    return this.#starts === null ? text : text.replace(this.#starts, `$&${mark}`);
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

function unusedMark(text: string): string {
  for (let code = FIRST_MARK; code >= LAST_MARK; code--) {
    const mark = String.fromCharCode(code);
    if (!text.includes(mark) && !text.includes(markEscape(mark))) return mark;
  }
  throw new GatewayError(
    'invalid_value',
    'The messages use every private-use character (U+E000..U+F8FF); leave one out',
    {
      param: 'messages',
    },
  );
}

function stringsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value)) return value.flatMap(stringsIn);
  if (typeof value === 'object' && value !== null) return Object.entries(value).flat().flatMap(stringsIn);
  return [];
}

function mapStrings(value: unknown, map: (text: string) => string, mapKey: (key: string) => string): unknown {
  if (typeof value === 'string') return map(value);
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, map, mapKey));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value);
  return Object.fromEntries(entries.map(([key, item]) => [mapKey(key), mapStrings(item, map, mapKey)]));
}
