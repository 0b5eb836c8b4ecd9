// Values of a row's fields, checked: texts, messages, and the parts of other data sets that are not learned from.

import { type Fields, isFields } from './json-rows.js';
import { RowDrop, RowFault, quote } from './row-faults.js';
import { type ConversationTags, OPENAI_TAGS } from './row-mapping.js';
import type { TrainingMessage } from './types.js';

const TOOL_KEYS = ['tools', 'functions', 'tool_calls', 'function_call'];
const MEDIA_KEYS = ['image', 'images', 'video', 'videos', 'audio', 'audios'];

/** Throws RowFault where the row or message has tools, function calls, images, video or audio, there or under `more` keys. */
export function refuseUnsupported(fields: Fields, path: string, more: readonly string[] = []): void {
  for (const key of TOOL_KEYS)
    if (isPresent(fields[key]))
      throw new RowFault(path + key, 'tools and function calls are not supported; leave the row out');
  for (const key of [...MEDIA_KEYS, ...more])
    if (isPresent(fields[key]))
      throw new RowFault(path + key, 'tools and media are not supported, only text is learned from; leave the row out');
}

function isPresent(value: unknown): boolean {
  if (value === undefined || value === null) return false;
  if (typeof value === 'string') return !['', '[]', '{}'].includes(value.trim());
  if (Array.isArray(value)) return value.length > 0;
  return !isFields(value) || Object.keys(value).length > 0;
}

/** Throws RowFault where the value is no string. */
export function textField(fields: Fields, key: string, path = ''): string {
  const value = fields[key];
  if (typeof value !== 'string')
    throw new RowFault(path + key, `expected a string, got ${quote(value)}; write the text, or leave the row out`);
  return value;
}

/** Null, absent and an absent key are no text. */
export function optionalText(fields: Fields, key: string | null): string {
  if (key === null || fields[key] === undefined || fields[key] === null) return '';
  return textField(fields, key);
}

/** How the messages of a list are written. */
export interface MessageStyle {
  readonly tags: ConversationTags;
  readonly weights: boolean;
}

export const OPENAI_STYLE: MessageStyle = { tags: OPENAI_TAGS, weights: true };

/**
 * The messages at `fields[key]`. What else a message has is named in `ignored`.
 * Throws RowFault where it is no list of messages, RowDrop unknown_role.
 */
export function messagesField(
  fields: Fields,
  key: string,
  style: MessageStyle,
  ignored: Set<string>,
  path = '',
): TrainingMessage[] {
  const value = fields[key];
  if (!Array.isArray(value))
    throw new RowFault(path + key, `expected a list of messages, got ${quote(value)}`);
  return value.map((item: unknown, index) => readMessage(item, `${path}${key}[${index}]`, style, ignored));
}

/** Throws RowFault where the value is no message, RowDrop unknown_role. */
export function readMessage(
  value: unknown,
  path: string,
  style: MessageStyle,
  ignored: Set<string>,
): TrainingMessage {
  const { tags } = style;
  if (!isFields(value) || typeof value[tags.role] !== 'string')
    throw new RowFault(path, `expected {"${tags.role}", "${tags.content}"}, got ${quote(value)}`);
  refuseUnsupported(value, `${path}.`);
  const role = roleOf(String(value[tags.role]), tags, `${path}.${tags.role}`);
  const content = contentText(value[tags.content], `${path}.${tags.content}`);
  const known = [tags.role, tags.content, ...(style.weights ? ['weight'] : [])];
  for (const key of Object.keys(value)) if (!known.includes(key)) ignored.add(`messages[].${key}`);
  return style.weights && value['weight'] !== undefined
    ? { role, content, weight: weightOf(value['weight'], role, `${path}.weight`) }
    : { role, content };
}

/** `developer` is OpenAI's newer name of `system`, as in the chat API. */
function roleOf(role: string, tags: ConversationTags, path: string): string {
  if (role === tags.user) return 'user';
  if (role === tags.assistant) return 'assistant';
  if (role === tags.system || role === 'developer') return 'system';
  if (role === tags.observation || role === tags.function)
    throw new RowFault(path, `turns of the role ${quote(role)} are not supported; leave the row out`);
  throw new RowDrop(
    'unknown_role',
    `\`${path}\` is ${quote(role)}, expected ${quote(tags.user)}, ${quote(tags.assistant)} or ${quote(tags.system)}`,
  );
}

/** Text parts are joined, as the chat API joins them. */
function contentText(value: unknown, path: string): string {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value))
    throw new RowFault(path, `expected a string, got ${quote(value)}; write the text, or leave the row out`);
  return value
    .map((part: unknown, index) => {
      if (isFields(part) && part['type'] === 'text') return textField(part, 'text', `${path}[${index}].`);
      throw new RowFault(`${path}[${index}]`, `only parts of type "text" are learned from, got ${quote(part)}`);
    })
    .join('');
}

function weightOf(value: unknown, role: string, path: string): 0 | 1 {
  if (value !== 0 && value !== 1) throw new RowFault(path, `expected 0 or 1, got ${quote(value)}`);
  if (role !== 'assistant')
    throw new RowFault(path, `only messages of the role "assistant" have a weight; remove it`);
  return value;
}
