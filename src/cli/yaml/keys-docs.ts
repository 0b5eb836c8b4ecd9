// The parts of docs/training.md that are made from tables: the keys of a training file, and what bases of common sizes need.
import { assert } from '../../errors.js';
import { sizeTable } from '../../train/plan/size-table.js';
import { sizeText } from '../../train/plan/training-plan.js';
import { ACCEPTED_KEYS } from './accepted-keys.js';
import { valueWords } from './key-value.js';
import { REFUSED_KEYS } from './refused-keys.js';
import type { SupportedKey } from './supported-key.js';
import { SUPPORTED_KEYS } from './supported-keys.js';

/** The page with its made parts, each between `<!-- begin NAME -->` and `<!-- end NAME -->`, as the tables say. */
export function withTables(page: string): string {
  const parts = {
    supported: supportedTable(),
    accepted: acceptedList(),
    refused: refusedTable(),
    sizes: sizesTable(),
  };
  return Object.entries(parts).reduce((text, [name, made]) => {
    const [begin, end] = [`<!-- begin ${name} -->`, `<!-- end ${name} -->`];
    const [from, to] = [text.indexOf(begin), text.indexOf(end)];
    assert(from >= 0 && to > from, `docs/training.md has no part ${name}`);
    return `${text.slice(0, from + begin.length)}\n\n${made}\n\n${text.slice(to)}`;
  }, page);
}

function supportedTable(): string {
  const rows = Object.entries<SupportedKey>(SUPPORTED_KEYS).map(([name, key]) => [
    code(name),
    key.kind === 'choice' ? key.choices.map(code).join(', ') : valueWords(key),
    fallbackWords(key),
    key.methods === undefined ? key.help : `${key.help} (${key.methods.map(code).join(', ')})`,
  ]);
  return table(['key', 'value', 'default', 'meaning'], rows);
}

/** By what holds instead. */
function acceptedList(): string {
  const notes = [...new Set(ACCEPTED_KEYS.values())];
  const keysOf = (note: string) =>
    [...ACCEPTED_KEYS].filter(([, other]) => other === note).map(([name]) => code(name));
  return notes.map((note) => `- ${note}: ${keysOf(note).join(', ')}`).join('\n');
}

function refusedTable(): string {
  const keys = [...REFUSED_KEYS].map(([name, { reason, instead }]) => [
    code(name),
    reason,
    instead === null ? 'nothing' : code(instead),
  ]);
  const values = Object.entries<SupportedKey>(SUPPORTED_KEYS).flatMap(([name, key]) =>
    key.kind === 'choice' && key.refused !== undefined
      ? Object.entries(key.refused).map(([value, reason]) => [code(`${name}: ${value}`), reason, ''])
      : [],
  );
  return table(['key', 'why', 'nearest'], [...keys, ...values]);
}

function sizesTable(): string {
  return table(
    [
      'base',
      'method',
      'bits a parameter',
      'matrices of the blocks',
      'trained, with gradients and moments',
      'whole run',
    ],
    sizeTable().map(({ base, method, bitsPerParameter, weightBytes, trainedBytes, neededBytes }) => [
      base,
      method,
      bitsPerParameter.toFixed(3),
      sizeText(weightBytes),
      sizeText(trainedBytes),
      sizeText(neededBytes),
    ]),
  );
}

function fallbackWords(key: SupportedKey): string {
  if (key.required === true) return 'must be given';
  if (key.fallbackWords !== undefined) return key.fallbackWords;
  if (key.fallback === null) return 'none';
  return code(Array.isArray(key.fallback) ? key.fallback.join(',') : String(key.fallback));
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function code(text: string): string {
  return `\`${text}\``;
}
