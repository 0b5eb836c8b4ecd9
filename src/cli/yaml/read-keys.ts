// From a file's entries to the value of every supported key: what is unknown or not computed is refused by name, what changes
// nothing is noted. Every problem is told, each with its place.
import { BadValue } from '../option-value.js';
import { nearest } from '../nearest.js';
import { ACCEPTED_KEYS } from './accepted-keys.js';
import type { Entry } from './document.js';
import { readValue, RefusedValue, type KeyValue } from './key-value.js';
import { isNeutral, REFUSED_KEYS } from './refused-keys.js';
import type { SupportedKey } from './supported-key.js';
import { SUPPORTED_KEYS, type KeyValues } from './supported-keys.js';

export interface ReadKeys {
  readonly values: KeyValues;
  /** Supported keys that were given a value. */
  readonly given: ReadonlySet<string>;
}

/** Adds to `problems` and `notes`; the values are whole even where there are problems. */
export function readKeys(entries: readonly Entry[], problems: string[], notes: string[]): ReadKeys {
  const given = new Map<string, KeyValue>();
  const withoutEffect = new Map<string, string[]>();
  for (const entry of entries) {
    const key: SupportedKey | undefined = supportedKey(entry.key);
    if (key !== undefined) readSupported(entry, key, given, problems);
    else if (ACCEPTED_KEYS.has(entry.key)) noteAccepted(entry, withoutEffect);
    else problems.push(...refusal(entry));
  }
  for (const [note, keys] of withoutEffect) notes.push(`${keys.join(', ')}: ${note}`);
  for (const [name, key] of Object.entries<SupportedKey>(SUPPORTED_KEYS))
    if (key.required === true && !given.has(name) && !entries.some((entry) => entry.key === name))
      problems.push(`Expected \`${name}\` to be given: ${key.help}`);
  const values = Object.entries<SupportedKey>(SUPPORTED_KEYS).map(([name, key]) => [
    name,
    given.has(name) ? given.get(name) : key.fallback,
  ]);
  // The table gives both this object and its type; readValue keeps each kind to its type.
  return { values: Object.freeze(Object.fromEntries(values)) as KeyValues, given: new Set(given.keys()) };
}

export function supportedKey(name: string): SupportedKey | undefined {
  return Object.hasOwn(SUPPORTED_KEYS, name) ? SUPPORTED_KEYS[name as keyof KeyValues] : undefined;
}

function readSupported(
  { key: name, value, place }: Entry,
  key: SupportedKey,
  given: Map<string, KeyValue>,
  problems: string[],
): void {
  try {
    const read = readValue(key, value);
    if (value === null || value === '') {
      if (key.required === true) problems.push(`Expected \`${name}\` to be given: ${key.help} (${place})`);
    } else given.set(name, read);
  } catch (error) {
    if (error instanceof RefusedValue)
      problems.push(`Unsupported \`${name}: ${shown(value)}\`: ${error.message} (${place})`);
    else if (error instanceof BadValue)
      problems.push(`Expected \`${name}\` to be ${error.message}, got \`${shown(value)}\` (${place})`);
    else throw error;
  }
}

/** A value that says nothing needs no note. */
function noteAccepted({ key, value }: Entry, withoutEffect: Map<string, string[]>): void {
  if (value === null || value === undefined || value === false) return;
  const note = ACCEPTED_KEYS.get(key)!;
  withoutEffect.set(note, [...(withoutEffect.get(note) ?? []), key]);
}

function refusal({ key, value, place }: Entry): string[] {
  const refused = REFUSED_KEYS.get(key);
  if (refused === undefined) {
    const known = [...Object.keys(SUPPORTED_KEYS), ...ACCEPTED_KEYS.keys(), ...REFUSED_KEYS.keys()];
    return [`Unknown key \`${key}\`${nearest(key, known)} (${place})`];
  }
  if (isNeutral(refused, value)) return [];
  const instead = refused.instead === null ? '' : `; the nearest is \`${refused.instead}\``;
  return [`Unsupported \`${key}\`: ${refused.reason}${instead} (${place})`];
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
