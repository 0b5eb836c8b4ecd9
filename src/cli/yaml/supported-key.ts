// An entry of the table of honoured keys.
import type { ValueKind } from './key-value.js';

export type SupportedKey = ValueKind & {
  readonly help: string;
  /** The default in words, where it is no fixed value. */
  readonly fallbackWords?: string;
  /** The key must be given. */
  readonly required?: true;
  /** The value of `finetuning_type` under which alone it is read. */
  readonly methods?: readonly string[];
};
