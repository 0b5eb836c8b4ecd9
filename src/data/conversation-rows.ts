// Rows with a list of messages: OpenAI's chat form, ShareGPT's, and those with a chosen and a rejected message.

import type { Fields } from './json-rows.js';
import { messagesField, optionalText, readMessage } from './row-fields.js';
import type { ConversationMapping } from './row-mapping.js';
import { chatExample, preferenceExample } from './turn-order.js';
import type { Example, TrainingMessage } from './types.js';

/** A first message of the role system wins over the row's system text. Throws RowFault, RowDrop. */
export function readConversationRow(
  fields: Fields,
  mapping: ConversationMapping,
  ignored: Set<string>,
): Example {
  const listed = messagesField(fields, mapping.messages, mapping, ignored);
  const system = optionalText(fields, mapping.system);
  const messages: readonly TrainingMessage[] =
    system === '' || listed[0]?.role === 'system' ? listed : [{ role: 'system', content: system }, ...listed];
  const { chosen, rejected } = mapping;
  if (chosen === null || rejected === null) return chatExample(messages);
  return preferenceExample(
    messages,
    readMessage(fields[chosen], chosen, mapping, ignored),
    readMessage(fields[rejected], rejected, mapping, ignored),
  );
}
