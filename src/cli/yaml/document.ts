// A YAML file and the words key=value behind it, as one list of keys with their values and where each stood.
// What the keys mean is not known here.
import { isMap, isScalar, LineCounter, parse, parseDocument } from 'yaml';

export interface Entry {
  readonly key: string;
  /** As YAML gives it: text, number, boolean, null, list or object. */
  readonly value: unknown;
  /** "line 3 of train.yaml", or "the command line". */
  readonly place: string;
}

/**
 * `overrides` are words of the form key=value, each value read as YAML; a later one replaces an earlier one and the file's.
 * What cannot be read goes into `problems`.
 */
export function readEntries(
  text: string,
  file: string,
  overrides: readonly string[],
  problems: string[],
): readonly Entry[] {
  const entries = new Map<string, Entry>();
  for (const entry of [...fileEntries(text, file, problems), ...overrideEntries(overrides, problems)])
    entries.set(entry.key, entry);
  return [...entries.values()];
}

function fileEntries(text: string, file: string, problems: string[]): Entry[] {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true });
  if (document.errors.length > 0) {
    problems.push(
      ...document.errors.map(
        (error) => `line ${lines.linePos(error.pos[0]).line} of ${file}: ${error.message}`,
      ),
    );
    return [];
  }
  if (document.contents === null) return [];
  if (!isMap(document.contents)) {
    problems.push(`Expected ${file} to hold lines of the form key: value`);
    return [];
  }
  const values = document.toJS() as Readonly<Record<string, unknown>>;
  const places = new Map(
    document.contents.items.map(({ key }) => [
      isScalar(key) ? String(key.value) : '',
      isScalar(key) && key.range ? `line ${lines.linePos(key.range[0]).line} of ${file}` : file,
    ]),
  );
  return Object.entries(values).map(([key, value]) => ({ key, value, place: places.get(key) ?? file }));
}

function overrideEntries(words: readonly string[], problems: string[]): Entry[] {
  return words.flatMap((word) => {
    const at = word.indexOf('=');
    if (at < 1) {
      problems.push(`Expected a word of the form key=value, got \`${word}\` on the command line`);
      return [];
    }
    return [{ key: word.slice(0, at), value: overrideValue(word.slice(at + 1)), place: 'the command line' }];
  });
}

/** Text that is no YAML, such as one with a lone bracket, is meant as it stands. */
function overrideValue(text: string): unknown {
  try {
    return parse(text) as unknown;
  } catch {
    return text;
  }
}
