// Rows of Alpaca's form: instruction and input to a user's turn, output to the answer.

import type { Fields } from './json-rows.js';
import { RowDrop, RowFault, quote } from './row-faults.js';
import { optionalText, textField } from './row-fields.js';
import type { InstructionMapping } from './row-mapping.js';
import { chatExample, preferenceExample } from './turn-order.js';
import type { Example, TextExample, TrainingMessage } from './types.js';

/** Throws RowFault, RowDrop. */
export function readInstructionRow(fields: Fields, mapping: InstructionMapping): Example {
  const { prompt, query, response, chosen, rejected } = mapping;
  const texts = [prompt === null ? '' : textField(fields, prompt), optionalText(fields, query)];
  const request = texts.filter((text) => text !== '').join('\n');
  if (chosen !== null && rejected !== null)
    return preferenceExample(
      [...earlierTurns(fields, mapping), { role: 'user', content: request }],
      { role: 'assistant', content: textField(fields, chosen) },
      { role: 'assistant', content: textField(fields, rejected) },
    );
  if (response === null) return textExample(request);
  return chatExample([
    ...earlierTurns(fields, mapping),
    { role: 'user', content: request },
    { role: 'assistant', content: textField(fields, response) },
  ]);
}

/** Throws RowDrop empty_text. */
export function textExample(text: string): TextExample {
  if (text.trim() === '') throw new RowDrop('empty_text', 'the text is empty');
  return { kind: 'text', text };
}

function earlierTurns(fields: Fields, { system, history }: InstructionMapping): TrainingMessage[] {
  const rounds = history === null ? [] : (fields[history] ?? []);
  if (!Array.isArray(rounds))
    throw new RowFault(history ?? '', `expected a list of [prompt, answer], got ${quote(rounds)}`);
  return [
    { role: 'system', content: optionalText(fields, system) },
    ...rounds.flatMap((round: unknown, index) => earlierRound(round, `${history}[${index}]`)),
  ];
}

function earlierRound(round: unknown, path: string): TrainingMessage[] {
  const [prompt, answer, ...more]: unknown[] = Array.isArray(round) ? round : [];
  if (typeof prompt !== 'string' || typeof answer !== 'string' || more.length > 0)
    throw new RowFault(path, `expected [prompt, answer], two strings, got ${quote(round)}`);
  return [
    { role: 'user', content: prompt },
    { role: 'assistant', content: answer },
  ];
}
