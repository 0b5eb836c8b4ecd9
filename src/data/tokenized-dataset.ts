// A dataset to tokens: every row, with what was cut, and what was dropped and why.

import { GatewayError } from '../errors.js';
import type { TextTokenizer } from '../tokenizer/types.js';
import type { Dataset } from './dataset-reader.js';
import type { DroppedRow } from './row-faults.js';
import { type Tokenized, type TokenizingOptions, sidesOf, tokenizeExample } from './tokenize-example.js';
import type { Example, TokenizedExample, TokenizedPair } from './types.js';

export interface TokenizedRow extends Tokenized {
  readonly place: string;
}

export interface TokenizedDataset {
  readonly rows: readonly TokenizedRow[];
  /** What the reader dropped, then what has nothing to learn or cannot be rendered. */
  readonly dropped: readonly DroppedRow[];
  readonly ignoredFields: readonly string[];
}

/**
 * Rows that the template refuses, that nothing is learned from, or whose pair is cut to the same answers are dropped. Throws GatewayError
 * all_labels_masked where nothing is learned from over half of the rows, the template's own error where it refuses over half of them,
 * and the errors of tokenizeExample that are not a row's fault.
 */
export function tokenizeDataset(
  dataset: Dataset,
  tokenizer: TextTokenizer,
  options: TokenizingOptions,
): TokenizedDataset {
  const rows: TokenizedRow[] = [];
  const dropped: DroppedRow[] = [];
  let refusal: { readonly place: string; readonly error: GatewayError } | null = null;
  for (const { place, example } of dataset.rows) {
    const result = tokenizeRow(example, tokenizer, options);
    if (result instanceof GatewayError) {
      refusal ??= { place, error: result };
      dropped.push({ place, reason: 'template_refused', detail: result.message });
    } else if (result.numSupervised === 0)
      dropped.push({ place, reason: 'all_labels_masked', detail: 'no token to learn' });
    else if (result.parts.every(hasSameAnswers))
      dropped.push({ place, reason: 'same_answers', detail: 'the answers differ only behind the cutoff' });
    else rows.push({ place, ...result });
  }
  const isOverHalf = (reason: DroppedRow['reason']): boolean =>
    dropped.filter((row) => row.reason === reason).length * 2 > dataset.rows.length;
  if (refusal !== null && isOverHalf('template_refused')) throw placed(refusal.place, refusal.error);
  if (isOverHalf('all_labels_masked')) throw allMasked(dataset, dropped, options);
  if (rows.length === 0)
    throw new GatewayError('invalid_file', `No row is left to train on. ${dropped[0]?.place}: ${dropped[0]?.detail}`);
  return { rows, dropped: [...dataset.dropped, ...dropped], ignoredFields: dataset.ignoredFields };
}

/** The parts of all rows: what batches are made of. */
export function partsOf(dataset: TokenizedDataset): (TokenizedExample | TokenizedPair)[] {
  return dataset.rows.flatMap(({ parts }) => parts);
}

/** What the template says about the messages of this row is returned; what no row would change is thrown. */
function tokenizeRow(
  example: Example,
  tokenizer: TextTokenizer,
  options: TokenizingOptions,
): Tokenized | GatewayError {
  try {
    return tokenizeExample(example, tokenizer, options);
  } catch (error) {
    const isRows =
      error instanceof GatewayError && (error.param === 'messages' || error.param === 'chat_template');
    if (!isRows || error.code === 'unsupported_parameter') throw error;
    return error;
  }
}

function placed(place: string, error: GatewayError): GatewayError {
  const param = error.param === null ? {} : { param: error.param };
  return new GatewayError(error.code, `${place}: ${error.message}`, { ...param, cause: error });
}

function hasSameAnswers(part: TokenizedExample | TokenizedPair): boolean {
  const [first, second] = sidesOf(part);
  if (second === undefined) return false;
  return Buffer.from(first!.tokens.buffer).equals(Buffer.from(second.tokens.buffer));
}

function allMasked(
  dataset: Dataset,
  dropped: readonly DroppedRow[],
  { cutoffLength, maskHistory }: TokenizingOptions,
): GatewayError {
  const masked = dropped.filter(({ reason }) => reason === 'all_labels_masked');
  return new GatewayError(
    'all_labels_masked',
    `${masked.length} of ${dataset.rows.length} rows have no token to learn, the first is ${masked[0]!.place}. Check that answers are of the role assistant and not all of weight 0${
      maskHistory ? ' (with mask_history, the last one)' : ''
    }, and that prompts leave room for them: cutoff_len is ${cutoffLength}`,
    { param: 'training_file' },
  );
}
