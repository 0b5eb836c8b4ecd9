// A dataset's text as rows: a JSON array of objects, or JSONL with an object a line.

import { invalidFile } from '../formats/invalid-file.js';
import { type PlacedFault, RowFault, quote } from './row-faults.js';

export type Fields = Readonly<Record<string, unknown>>;

export interface JsonRow {
  /** `line 3` of JSONL, `row 3` of an array; from 1. */
  readonly place: string;
  readonly fields: Fields;
}

export interface JsonRows {
  readonly rows: readonly JsonRow[];
  readonly faults: readonly PlacedFault[];
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Faults are rows that are no JSON, or no object. Blank lines are no rows.
 * Throws GatewayError invalid_file where the text is empty or a broken array.
 */
export function parseRows(text: string, file: string): JsonRows {
  const content = text.startsWith('\ufeff') ? text.slice(1) : text;
  const first = content.trimStart()[0];
  if (first === undefined) throw invalidFile(file, 'the file is empty; write one JSON object a line');
  const rows: JsonRow[] = [];
  const faults: PlacedFault[] = [];
  for (const { place, value } of first === '[' ? arrayItems(content, file) : jsonLines(content)) {
    if (value instanceof RowFault) faults.push({ place, fault: value });
    else if (isFields(value)) rows.push({ place, fields: value });
    else faults.push({ place, fault: new RowFault('', `expected a JSON object, got ${quote(value)}`) });
  }
  return { rows, faults };
}

interface PlacedValue {
  readonly place: string;
  readonly value: unknown;
}

function arrayItems(text: string, file: string): PlacedValue[] {
  try {
    const items = JSON.parse(text) as readonly unknown[];
    return items.map((value, index) => ({ place: `row ${index + 1}`, value }));
  } catch (error) {
    throw invalidFile(file, `begins as a JSON array but is none: ${messageOf(error)}`, error);
  }
}

function jsonLines(text: string): PlacedValue[] {
  return text.split('\n').flatMap((line, index) => {
    if (line.trim() === '') return [];
    return [{ place: `line ${index + 1}`, value: parsedLine(line) }];
  });
}

function parsedLine(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch (error) {
    return new RowFault('', `is no JSON (${messageOf(error)}); write each row as one object on one line`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
