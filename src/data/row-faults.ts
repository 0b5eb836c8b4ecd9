// What can be wrong with a row of a dataset: a fault refuses the file, a drop leaves the row out and is reported.

import { GatewayError } from '../errors.js';

const MAX_SHOWN = 20;
const MAX_QUOTED = 60;

/** Why a row is not trained on; every one that was left out is reported with its reason. */
export type DropReason =
  | 'no_turns'
  | 'role_order'
  | 'turn_count'
  | 'unknown_role'
  | 'empty_prompt'
  | 'empty_answer'
  | 'empty_text'
  | 'same_answers'
  | 'template_refused'
  | 'all_labels_masked';

export interface DroppedRow {
  /** File and line, or file and row. */
  readonly place: string;
  readonly reason: DropReason;
  readonly detail: string;
}

/** The row does not follow its format: thrown by the readers of single rows, collected by the reader of the file. */
export class RowFault extends Error {
  override readonly name = 'RowFault';
  /** The path of the field, such as `messages[1].content`; empty for the row itself. */
  readonly field: string;

  constructor(field: string, problem: string) {
    super(problem);
    this.field = field;
  }
}

/** The row follows its format but cannot be learned from. */
export class RowDrop extends Error {
  override readonly name = 'RowDrop';
  readonly reason: DropReason;

  constructor(reason: DropReason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

export interface PlacedFault {
  /** `line 3` of JSONL, `row 3` of a JSON array; from 1. */
  readonly place: string;
  readonly fault: RowFault;
}

/** A GatewayError invalid_file that lists the first faults, one a line. */
export function invalidRows(file: string, faults: readonly PlacedFault[], numRows: number): GatewayError {
  const lines = faults
    .slice(0, MAX_SHOWN)
    .map(({ place, fault }) =>
      fault.field === '' ? `${place}: ${fault.message}` : `${place}, \`${fault.field}\`: ${fault.message}`,
    );
  if (faults.length > MAX_SHOWN) lines.push(`and ${faults.length - MAX_SHOWN} more`);
  const message = `${file}: ${faults.length} of ${numRows} rows cannot be used. Mend or remove them.\n${lines.join('\n')}`;
  return new GatewayError('invalid_file', message, { param: file });
}

/** How often each reason occurs, most frequent first. */
export function countReasons(
  dropped: readonly DroppedRow[],
): Readonly<Partial<Record<DropReason, number>>> {
  const counts = new Map<DropReason, number>();
  for (const { reason } of dropped) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return Object.fromEntries([...counts].toSorted(([, a], [, b]) => b - a));
}

/** The value as an error message shows it. */
export function quote(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}...` : text;
}
