// The text of a dataset's file to examples: the format told or given, each row read, faults collected, dropped rows reported.

import type { GatewayError } from '../errors.js';
import { invalidFile } from '../formats/invalid-file.js';
import { readConversationRow } from './conversation-rows.js';
import { readInstructionRow, textExample } from './instruction-rows.js';
import { type Fields, parseRows } from './json-rows.js';
import { readCompletionRow, readOpenAiPreferenceRow, readPreferenceRow } from './pair-rows.js';
import {
  type DroppedRow,
  type PlacedFault,
  RowDrop,
  RowFault,
  countReasons,
  invalidRows,
} from './row-faults.js';
import { refuseUnsupported, textField } from './row-fields.js';
import { type DatasetFormat, type RowMapping, detectFormat, mappingOf } from './row-mapping.js';
import type { Example } from './types.js';

export interface DatasetRow {
  /** File and line, or file and row: what a report calls it. */
  readonly place: string;
  readonly example: Example;
}

export interface Dataset {
  readonly rows: readonly DatasetRow[];
  /** Rows that were read and left out. */
  readonly dropped: readonly DroppedRow[];
  /** Fields that were not used, such as `id` or `messages[].name`. */
  readonly ignoredFields: readonly string[];
}

/** Keys that rows of any format may have and that readers look at. */
const WATCHED_KEYS = ['tools'];

/**
 * `file` is the name in messages; without a format it is told by the keys of the first row.
 * Throws GatewayError invalid_file: a file that is no JSON, a format that cannot be told, rows that do not follow the format
 * (all are collected, 20 are shown), and a file that no row is left of.
 */
export function readDataset(
  text: string,
  file: string,
  format: DatasetFormat | RowMapping | null = null,
): Dataset {
  const parsed = parseRows(text, file);
  const faults: PlacedFault[] = [...parsed.faults];
  const first = parsed.rows[0]?.fields ?? {};
  const numRows = parsed.rows.length + faults.length;
  if (parsed.rows.length === 0) throw invalidRows(file, faults, numRows);
  const named = format ?? detectFormat(first, file);
  const mapping = typeof named === 'string' ? mappingOf(named) : named;
  const rows: DatasetRow[] = [];
  const dropped: DroppedRow[] = [];
  const ignored = new Set<string>();
  for (const { place, fields } of parsed.rows) {
    const at = `${file} ${place}`;
    const read = attempt(() => readRow(fields, mapping, ignored));
    if (read instanceof RowFault) faults.push({ place, fault: read });
    else if (read instanceof RowDrop)
      dropped.push({ place: at, reason: read.reason, detail: read.message });
    else rows.push({ place: at, example: read });
  }
  if (faults.length > 0) throw invalidRows(file, faults, numRows);
  if (rows.length === 0) throw noRowLeft(file, dropped);
  return { rows, dropped, ignoredFields: [...ignored].toSorted() };
}

/** Several files as one dataset. */
export function joinDatasets(datasets: readonly Dataset[]): Dataset {
  return {
    rows: datasets.flatMap(({ rows }) => rows),
    dropped: datasets.flatMap(({ dropped }) => dropped),
    ignoredFields: [...new Set(datasets.flatMap(({ ignoredFields }) => ignoredFields))].toSorted(),
  };
}

function attempt(read: () => Example): Example | RowFault | RowDrop {
  try {
    return read();
  } catch (error) {
    if (error instanceof RowFault || error instanceof RowDrop) return error;
    throw error;
  }
}

function readRow(fields: Fields, mapping: RowMapping, ignored: Set<string>): Example {
  const unsupported = 'unsupported' in mapping ? mapping.unsupported : [];
  refuseUnsupported(fields, '', unsupported);
  const known = [...knownKeys(mapping), ...unsupported, ...WATCHED_KEYS];
  for (const key of Object.keys(fields)) if (!known.includes(key)) ignored.add(key);
  switch (mapping.kind) {
    case 'conversation':
      return readConversationRow(fields, mapping, ignored);
    case 'instruction':
      return readInstructionRow(fields, mapping);
    case 'openai_preference':
      return readOpenAiPreferenceRow(fields, ignored);
    case 'preference':
      return readPreferenceRow(fields, ignored);
    case 'prompt_completion':
      return readCompletionRow(fields, ignored);
    case 'text':
      return textExample(textField(fields, 'text'));
  }
}

function knownKeys(mapping: RowMapping): readonly (string | null)[] {
  switch (mapping.kind) {
    case 'conversation':
      return [mapping.messages, mapping.system, mapping.chosen, mapping.rejected];
    case 'instruction': {
      const { prompt, query, response, history, system, chosen, rejected } = mapping;
      return [prompt, query, response, history, system, chosen, rejected];
    }
    case 'openai_preference':
      return ['input', 'preferred_output', 'non_preferred_output'];
    case 'preference':
      return ['prompt', 'chosen', 'rejected'];
    case 'prompt_completion':
      return ['prompt', 'completion'];
    case 'text':
      return ['text'];
  }
}

function noRowLeft(file: string, dropped: readonly DroppedRow[]): GatewayError {
  const reasons = Object.entries(countReasons(dropped)).map(([reason, count]) => `${reason} ${count}`);
  const [example] = dropped;
  return invalidFile(
    file,
    `no row is left to train on: ${reasons.join(', ')}. ${example?.place}: ${example?.detail}`,
  );
}
