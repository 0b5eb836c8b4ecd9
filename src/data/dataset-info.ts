// LLaMA-Factory's dataset_info.json: which file a named dataset is in, and which of its columns and tags mean what.
// Its columns are as there: once `columns` is given, what it does not name is not read.

import type { GatewayError } from '../errors.js';
import { invalidFile } from '../formats/invalid-file.js';
import { parseStrictJson } from '../formats/strict-json.js';
import { type Fields, isFields } from './json-rows.js';
import { quote } from './row-faults.js';
import {
  type ConversationTags,
  OPENAI_TAGS,
  type RowMapping,
  SHAREGPT_TAGS,
} from './row-mapping.js';

const FILE = 'dataset_info.json';
const HUB_KEYS = ['hf_hub_url', 'ms_hub_url', 'om_hub_url', 'script_url', 'cloud_file_name'];
const ENTRY_KEYS = [
  ...HUB_KEYS,
  'file_name',
  'formatting',
  'ranking',
  'subset',
  'split',
  'folder',
  'num_samples',
  'columns',
  'tags',
];
/** A row that has something there is refused. */
const UNSUPPORTED_COLUMNS = ['tools', 'images', 'videos', 'audios'];
const COMMON_COLUMNS = [...UNSUPPORTED_COLUMNS, 'system', 'chosen', 'rejected', 'kto_tag'];
const ALPACA_COLUMNS = [...COMMON_COLUMNS, 'prompt', 'query', 'response', 'history'];
const CONVERSATION_COLUMNS = [...COMMON_COLUMNS, 'messages'];
/** The key of each tag in the file. */
const TAG_KEYS = {
  role: 'role_tag',
  content: 'content_tag',
  user: 'user_tag',
  assistant: 'assistant_tag',
  observation: 'observation_tag',
  function: 'function_tag',
  system: 'system_tag',
} as const satisfies Record<keyof ConversationTags, string>;
const FORMATTINGS = ['alpaca', 'sharegpt', 'openai'] as const;

export interface DatasetInfo {
  readonly name: string;
  /** Beside dataset_info.json. */
  readonly fileName: string;
  readonly mapping: RowMapping;
  /** Rows to draw at random; null is all. */
  readonly numSamples: number | null;
}

/**
 * The entries of these names, in this order. Throws GatewayError invalid_file naming the entry and key where one is missing, lies on a
 * hub, is KTO's, or has a key that is not known.
 */
export function readDatasetInfo(text: string, names: readonly string[]): DatasetInfo[] {
  const entries = parsed(text);
  return names.map((name) => {
    const entry = entries[name];
    if (!Object.hasOwn(entries, name) || !isFields(entry))
      throw refused(name, `is not there. Known are ${Object.keys(entries).join(', ')}`);
    return readEntry(name, entry);
  });
}

function parsed(text: string): Fields {
  let value: unknown;
  try {
    value = parseStrictJson(text);
  } catch (error) {
    throw invalidFile(FILE, `is no JSON: ${error instanceof Error ? error.message : String(error)}`, error);
  }
  if (!isFields(value)) throw invalidFile(FILE, 'expected an object with a dataset for each key');
  return value;
}

function readEntry(name: string, entry: Fields): DatasetInfo {
  refuseUnknown(name, entry, ENTRY_KEYS, '');
  const hub = HUB_KEYS.find((key) => entry[key] !== undefined);
  if (hub !== undefined)
    throw refused(
      name,
      `\`${hub}\` is not downloaded. Put the file beside ${FILE} and name it as \`file_name\``,
    );
  const formatting = entry['formatting'] ?? 'alpaca';
  if (!isFormatting(formatting))
    throw refused(name, `expected \`formatting\` to be one of ${FORMATTINGS.join(', ')}, got ${quote(formatting)}`);
  return {
    name,
    fileName: textOf(name, entry, 'file_name'),
    mapping: formatting === 'alpaca' ? instructionMapping(name, entry) : conversationMapping(name, entry, formatting),
    numSamples: numSamplesOf(name, entry['num_samples']),
  };
}

function isFormatting(value: unknown): value is (typeof FORMATTINGS)[number] {
  return FORMATTINGS.some((formatting) => formatting === value);
}

function instructionMapping(name: string, entry: Fields): RowMapping {
  const given = entry['columns'] !== undefined;
  const columns = columnsOf(name, entry, ALPACA_COLUMNS);
  const ranked = rankedColumns(name, entry, columns);
  const column = (key: string, usual: string | null) => columns[key] ?? (given ? null : usual);
  return {
    kind: 'instruction',
    prompt: column('prompt', 'instruction'),
    query: column('query', 'input'),
    response: ranked.chosen === null ? column('response', 'output') : null,
    history: column('history', null),
    system: column('system', null),
    ...ranked,
    unsupported: unsupportedColumns(columns),
  };
}

function conversationMapping(name: string, entry: Fields, formatting: 'sharegpt' | 'openai'): RowMapping {
  const columns = columnsOf(name, entry, CONVERSATION_COLUMNS);
  const usual = formatting === 'openai' ? OPENAI_TAGS : SHAREGPT_TAGS;
  return {
    kind: 'conversation',
    messages: columns['messages'] ?? (formatting === 'openai' ? 'messages' : 'conversations'),
    system: columns['system'] ?? null,
    ...rankedColumns(name, entry, columns),
    tags: tagsOf(name, entry['tags'], usual),
    weights: formatting === 'openai',
    unsupported: unsupportedColumns(columns),
  };
}

function columnsOf(name: string, entry: Fields, known: readonly string[]): Readonly<Record<string, string>> {
  const columns = entry['columns'] ?? {};
  if (!isFields(columns)) throw refused(name, `expected \`columns\` to be an object, got ${quote(columns)}`);
  refuseUnknown(name, columns, known, 'columns.');
  if (columns['kto_tag'] !== undefined)
    throw refused(name, '`columns.kto_tag`: KTO is not supported; use pairs with `chosen` and `rejected`');
  return Object.fromEntries(Object.keys(columns).map((key) => [key, textOf(name, columns, key, 'columns.')]));
}

function unsupportedColumns(columns: Readonly<Record<string, string>>): string[] {
  return UNSUPPORTED_COLUMNS.flatMap((key) => columns[key] ?? []);
}

function rankedColumns(
  name: string,
  entry: Fields,
  columns: Readonly<Record<string, string>>,
): { readonly chosen: string | null; readonly rejected: string | null } {
  const ranking = entry['ranking'] ?? false;
  if (typeof ranking !== 'boolean')
    throw refused(name, `expected \`ranking\` to be true or false, got ${quote(ranking)}`);
  if (!ranking) return { chosen: null, rejected: null };
  const { chosen, rejected } = columns;
  if (chosen === undefined || rejected === undefined)
    throw refused(name, '`ranking` needs `columns.chosen` and `columns.rejected`');
  return { chosen, rejected };
}

function tagsOf(name: string, tags: unknown, usual: ConversationTags): ConversationTags {
  if (tags === undefined) return usual;
  if (!isFields(tags)) throw refused(name, `expected \`tags\` to be an object, got ${quote(tags)}`);
  refuseUnknown(name, tags, Object.values(TAG_KEYS), 'tags.');
  const tag = (key: keyof ConversationTags): string =>
    tags[TAG_KEYS[key]] === undefined ? usual[key] : textOf(name, tags, TAG_KEYS[key], 'tags.');
  return {
    role: tag('role'),
    content: tag('content'),
    user: tag('user'),
    assistant: tag('assistant'),
    observation: tag('observation'),
    function: tag('function'),
    system: tag('system'),
  };
}

function numSamplesOf(name: string, value: unknown): number | null {
  if (value === undefined || value === null) return null;
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return value;
  throw refused(name, `expected \`num_samples\` to be a whole number from 1, got ${quote(value)}`);
}

function textOf(name: string, fields: Fields, key: string, path = ''): string {
  const value = fields[key];
  if (typeof value !== 'string' || value === '')
    throw refused(name, `expected \`${path}${key}\` to be a name, got ${quote(value)}`);
  return value;
}

function refuseUnknown(name: string, fields: Fields, known: readonly string[], path: string): void {
  const key = Object.keys(fields).find((candidate) => !known.includes(candidate));
  if (key !== undefined)
    throw refused(name, `\`${path}${key}\` is not known; remove it, or use one of ${known.join(', ')}`);
}

function refused(name: string, problem: string): GatewayError {
  return invalidFile(FILE, `\`${name}\`: ${problem}`);
}
