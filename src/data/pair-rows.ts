// Rows of a prompt with what follows it: TRL's preference and prompt-completion forms, texts or messages, and OpenAI's preference form.

import { type Fields, isFields } from './json-rows.js';
import { RowFault, quote } from './row-faults.js';
import { OPENAI_STYLE, messagesField, readMessage, refuseUnsupported } from './row-fields.js';
import { chatExample, preferenceExample } from './turn-order.js';
import type { ChatExample, PreferenceExample, TrainingMessage } from './types.js';

/** Texts become a user's turn and an answer. Only the completion is learned. Throws RowFault, RowDrop. */
export function readCompletionRow(fields: Fields, ignored: Set<string>): ChatExample {
  const prompt = textOrMessages(fields, 'prompt', 'user', ignored);
  const completion = textOrMessages(fields, 'completion', 'assistant', ignored);
  return chatExample([...prompt.map(unlearned), ...completion]);
}

/**
 * Without a prompt, or where the answers repeat it, the prompt is what both have in common before their last message.
 * Throws RowFault, RowDrop.
 */
export function readPreferenceRow(fields: Fields, ignored: Set<string>): PreferenceExample {
  const prompt = isAbsent(fields['prompt']) ? [] : textOrMessages(fields, 'prompt', 'user', ignored);
  const chosen = textOrMessages(fields, 'chosen', 'assistant', ignored);
  const rejected = textOrMessages(fields, 'rejected', 'assistant', ignored);
  const shared = Math.min(numShared(chosen, rejected), chosen.length - 1, rejected.length - 1);
  const inCommon = chosen.slice(0, Math.max(shared, 0));
  const isRepeated = prompt.length <= inCommon.length && numShared(prompt, inCommon) === prompt.length;
  const before = isRepeated ? inCommon : [...prompt, ...inCommon];
  if (before.length === 0)
    throw new RowFault('prompt', 'is missing, and the answers do not begin with messages in common; write it');
  return preferenceExample(
    before,
    onlyMessage(chosen.slice(inCommon.length), 'chosen'),
    onlyMessage(rejected.slice(inCommon.length), 'rejected'),
  );
}

/** {"input": {"messages"}, "preferred_output", "non_preferred_output"}. Throws RowFault, RowDrop. */
export function readOpenAiPreferenceRow(fields: Fields, ignored: Set<string>): PreferenceExample {
  const input = fields['input'];
  if (!isFields(input)) throw new RowFault('input', `expected {"messages"}, got ${quote(input)}`);
  refuseUnsupported(input, 'input.');
  const answer = (key: string): TrainingMessage =>
    onlyMessage(messagesField(fields, key, OPENAI_STYLE, ignored), key);
  return preferenceExample(
    messagesField(input, 'messages', OPENAI_STYLE, ignored, 'input.'),
    answer('preferred_output'),
    answer('non_preferred_output'),
  );
}

function textOrMessages(
  fields: Fields,
  key: string,
  role: 'user' | 'assistant',
  ignored: Set<string>,
): TrainingMessage[] {
  const value = fields[key];
  if (typeof value === 'string') return [{ role, content: value }];
  if (isFields(value)) return [readMessage(value, key, OPENAI_STYLE, ignored)];
  if (Array.isArray(value)) return messagesField(fields, key, OPENAI_STYLE, ignored);
  throw new RowFault(key, `expected a string or a list of messages, got ${quote(value)}`);
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
}

/** With how many equal messages two conversations begin. */
function numShared(a: readonly TrainingMessage[], b: readonly TrainingMessage[]): number {
  let count = 0;
  while (count < a.length && count < b.length && isSame(a[count]!, b[count]!)) count++;
  return count;
}

function isSame(a: TrainingMessage, b: TrainingMessage): boolean {
  return a.role === b.role && a.content === b.content;
}

function onlyMessage(messages: readonly TrainingMessage[], key: string): TrainingMessage {
  const [message, ...more] = messages;
  if (message === undefined || more.length > 0)
    throw new RowFault(
      key,
      `expected one answer after the prompt, got ${messages.length} messages; put what comes before it into the prompt`,
    );
  return message;
}

function unlearned(message: TrainingMessage): TrainingMessage {
  return message.role === 'assistant' ? { ...message, weight: 0 } : message;
}
