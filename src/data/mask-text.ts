// A tokenized example as text with marks around what is learned, to be read in a terminal.

import type { TextTokenizer } from '../tokenizer/types.js';
import { IGNORED, type TokenizedExample } from './types.js';

export interface MaskMarks {
  readonly open: string;
  readonly close: string;
}

/** Rare in texts, so that brackets of the text are not taken for marks. */
const BRACKETS: MaskMarks = { open: '⟦', close: '⟧' };

/** Special tokens are written out. Of a long example the first `maxTokens` are shown, and how many follow. */
export function maskText(
  { tokens, labels }: TokenizedExample,
  tokenizer: TextTokenizer,
  { maxTokens = 400, marks = BRACKETS }: { readonly maxTokens?: number; readonly marks?: MaskMarks } = {},
): string {
  const shown = Math.min(tokens.length, maxTokens);
  let text = '';
  for (let start = 0, end = 0; start < shown; start = end) {
    const isLearned = labels[start] !== IGNORED;
    while (end < shown && (labels[end] !== IGNORED) === isLearned) end++;
    const part = tokenizer.decode([...tokens.subarray(start, end)]);
    text += isLearned ? marks.open + part + marks.close : part;
  }
  return shown < tokens.length ? `${text} ... (${tokens.length - shown} more tokens)` : text;
}
