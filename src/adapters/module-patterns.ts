// Regular expressions out of an uploaded configuration, matched against module names within a time limit: a pattern may be written so
// that matching never ends. Python's syntax is read as JavaScript's with the `u` flag, which refuses what the two do not share.

import { createContext, Script } from 'node:vm';
import { assert } from '../errors.js';
import { invalidAdapter, unsupportedAdapter } from './refusal.js';
import { valueText } from './config-fields.js';
import { hasErrorCode } from './error-code.js';

/** A hundred times what ordinary patterns take, so that a busy machine refuses none; the event loop stands still meanwhile. */
const TIME_LIMIT_MS = 200;
/** Dots and word characters alone: no need for the regular expression engine, a dot stands for any one character. */
const PLAIN = /^[\w.]+$/;

const MATCH_ALL = new Script(`
  sources.map((source) => {
    try {
      const expression = new RegExp(source, 'u');
      return names.map((name) => expression.test(name));
    } catch (error) {
      return String(error.message);
    }
  })`);

/** How PEFT anchors the patterns of a key. */
export type Anchoring = 'whole' | 'suffix' | 'layer';

/**
 * For each pattern, which of the names it matches: `whole` as re.fullmatch, `suffix` as `(.*\.)?(pattern)$`, `layer` as
 * `.*?\.pattern\.(\d+)\.` from the start. Throws invalid_adapter (syntax) and unsupported_adapter (time) naming the key.
 */
export function matchPatterns(
  key: string,
  patterns: readonly string[],
  names: readonly string[],
  anchoring: Anchoring,
): readonly (readonly boolean[])[] {
  const plain = (pattern: string) => anchoring === 'suffix' && PLAIN.test(pattern);
  const sources = patterns.filter((pattern) => !plain(pattern)).map((p) => anchored(p, anchoring));
  const matched = sources.length === 0 ? [] : runBounded(key, sources, names);
  let next = 0;
  return patterns.map((pattern) => {
    if (plain(pattern)) return names.map((name) => plainSuffixMatches(pattern, name));
    const row = matched[next++]!;
    if (typeof row === 'string')
      throw invalidAdapter(
        `\`${key}\`: the pattern ${valueText(pattern)} is no valid regular expression: ${row}`,
        key,
      );
    return row;
  });
}

function anchored(pattern: string, anchoring: Anchoring): string {
  if (anchoring === 'whole') return `^(?:${pattern})$`;
  if (anchoring === 'suffix') return `^(.*\\.)?(${pattern})$`;
  return `^(?:.*?\\.${pattern}\\.(\\d+)\\.)`;
}

function plainSuffixMatches(pattern: string, name: string): boolean {
  const start = name.length - pattern.length;
  if (start < 0 || (start > 0 && name[start - 1] !== '.')) return false;
  for (let at = pattern.length - 1; at >= 0; at--)
    if (pattern[at] !== '.' && pattern[at] !== name[start + at]) return false;
  return true;
}

/** For each source a row of booleans, or the reason why it is no regular expression. */
function runBounded(
  key: string,
  sources: readonly string[],
  names: readonly string[],
): (boolean[] | string)[] {
  const context = createContext({ sources: [...sources], names: [...names] });
  try {
    const rows: unknown = MATCH_ALL.runInContext(context, { timeout: TIME_LIMIT_MS });
    assert(isRows(rows), 'the matching script returned something else than rows');
    return rows;
  } catch (error) {
    if (!hasErrorCode(error, 'ERR_SCRIPT_EXECUTION_TIMEOUT')) throw error;
    throw unsupportedAdapter(
      `\`${key}\`: matching its patterns takes more than ${TIME_LIMIT_MS} ms; write them as plain module names`,
      key,
    );
  }
}

function isRows(value: unknown): value is (boolean[] | string)[] {
  return Array.isArray(value) && value.every((row) => typeof row === 'string' || Array.isArray(row));
}
