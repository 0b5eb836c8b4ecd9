// A request's body: its size bound, its JSON, and its schema. A schema's messages are the ends of
// "Expected `x` to be ...", so that each error names the field, what it should be, and the offending value.

import type { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { createMiddleware } from 'hono/factory';
import { GatewayError } from '../errors.js';
import { countWork, runSteps, type Steps, TEXT_PER_STEP } from '../tokenizer/steps.js';
import { finishSteps } from './prompt-tokens.js';

const SHOWN_VALUE_LENGTH = 80;
const SHOWN_DEPTH = 3;
/** Nulls are dropped this deep: body, list, message, list of parts, part. */
const NULL_DEPTH = 5;

/** What a value costs to look at, in characters that are read. */
const WORK_PER_VALUE = 32;

/** A prompt of ids in the longest of contexts; to validate millions of items would take seconds. */
const MAX_LIST_LENGTH = 2 ** 17;

const TOOL_PARAMETERS = new Set([
  'tools',
  'tool_choice',
  'parallel_tool_calls',
  'functions',
  'function_call',
  'tool_calls',
  'tool_call_id',
]);

/** Refuses bodies over maxBytes with payload_too_large; a declared length is judged before a byte is read. */
export function limitBody(maxBytes: number) {
  const tooLarge = (): never => {
    throw new GatewayError('payload_too_large', `Expected the request body to be at most ${maxBytes} bytes`);
  };
  const limitStreamed = bodyLimit({ maxSize: maxBytes, onError: tooLarge });
  return createMiddleware(async function limitBodySize(c, next) {
    const declared = c.req.header('content-length');
    if (declared === undefined || c.req.header('transfer-encoding') !== undefined)
      return limitStreamed(c, next);
    if (Number(declared) > maxBytes) tooLarge();
    await next();
  });
}

/** The body as JSON that fits the schema; null counts as absent. Throws invalid_value and unsupported_parameter. */
export async function readJson<T extends z.ZodType>(c: Context, schema: T): Promise<z.infer<T>> {
  return finishSteps(jsonSteps(await readText(c), schema));
}

function* jsonSteps<T extends z.ZodType>(text: string, schema: T): Steps<z.infer<T>> {
  const isLong = text.length > TEXT_PER_STEP;
  if (isLong) yield;
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw new GatewayError('invalid_value', `Expected the request body to be JSON: ${reason(cause)}`, {
      cause,
    });
  }
  if (isLong) yield;
  return yield* bodySteps(body, schema);
}

/** Expected `path` to be EXPECTATION, got `value`. */
export function unexpected(path: string, expectation: string, value: unknown): GatewayError {
  return new GatewayError(
    'invalid_value',
    `Expected \`${path}\` to be ${expectation}, got \`${shown(value)}\``,
    {
      param: path,
    },
  );
}

export function unsupportedParameter(path: string): GatewayError {
  const name = path.slice(path.lastIndexOf('.') + 1);
  const what = TOOL_PARAMETERS.has(name) ? 'Tool calling is not supported' : `\`${path}\` is not supported`;
  return new GatewayError('unsupported_parameter', `${what}; remove \`${path}\` from the request`, {
    param: path,
  });
}

/** What fits the schema; null counts as absent. Throws invalid_value and unsupported_parameter. */
export function parseBody<T extends z.ZodType>(body: unknown, schema: T): z.infer<T> {
  return runSteps(bodySteps(body, schema));
}

function* bodySteps<T extends z.ZodType>(body: unknown, schema: T): Steps<z.infer<T>> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new GatewayError(
      'invalid_value',
      `Expected the request body to be a JSON object, got \`${shown(body)}\``,
    );
  }
  const result = schema.safeParse(yield* withoutNulls(body, NULL_DEPTH, '', countWork(TEXT_PER_STEP)));
  if (!result.success) throw validationError(result.error.issues, body);
  return result.data;
}

/** A body that breaks off is its client's doing. */
async function readText(c: Context): Promise<string> {
  try {
    const { body } = c.req.raw;
    const isShort = Number(c.req.header('content-length')) <= TEXT_PER_STEP;
    return isShort || body === null ? await c.req.text() : await decodeStream(body);
  } catch (cause) {
    throw new GatewayError('invalid_value', `Expected a whole request body: ${reason(cause)}`, { cause });
  }
}

/** Each chunk as it comes: to decode megabytes at once takes tens of milliseconds. */
async function decodeStream(body: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of body) text += decoder.decode(chunk, { stream: true });
  return text + decoder.decode();
}

export function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

type Issue = z.core.$ZodIssue;

function validationError(issues: readonly Issue[], body: unknown): GatewayError {
  const found = issues.map(deepest);
  const unknownKey = found.find((issue) => issue.code === 'unrecognized_keys');
  if (unknownKey !== undefined) {
    return unsupportedParameter([...unknownKey.path, unknownKey.keys[0]].map(String).join('.'));
  }
  const issue = found[0]!;
  return unexpected(issue.path.map(String).join('.'), issue.message, valueAt(body, issue.path));
}

/** Of a failed union, the first fault of the branch that got furthest; its own message where none fitted outside. */
function deepest(issue: Issue): Issue {
  if (issue.code !== 'invalid_union') return issue;
  const faults = issue.errors
    .map((branch) => branch[0])
    .filter((fault) => fault !== undefined)
    .filter((fault) => fault.path.length > 0 || fault.code === 'unrecognized_keys');
  const [furthest] = faults.toSorted((one, other) => reach(other) - reach(one));
  return furthest === undefined ? issue : deepest({ ...furthest, path: [...issue.path, ...furthest.path] });
}

/** The list item that a fault is in. */
function reach(issue: Issue): number {
  const [first] = issue.path;
  return typeof first === 'number' ? first : -1;
}

function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  let value = body;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Object.getOwnPropertyDescriptor(value, key)?.value;
  }
  return value;
}

function shown(value: unknown): string {
  const text = value === undefined ? 'undefined' : JSON.stringify(abridged(value, SHOWN_DEPTH));
  return text.length <= SHOWN_VALUE_LENGTH ? text : `${text.slice(0, SHOWN_VALUE_LENGTH)}...`;
}

/** Enough of a value to be recognised: bodies may be megabytes long, or nested deeper than the stack. */
function abridged(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return value.slice(0, SHOWN_VALUE_LENGTH);
  if (typeof value !== 'object' || value === null) return value;
  if (depth === 0) return '...';
  if (Array.isArray(value)) {
    return value.slice(0, SHOWN_VALUE_LENGTH).map((item) => abridged(item, depth - 1));
  }
  const entries = Object.entries(value).slice(0, SHOWN_VALUE_LENGTH);
  return Object.fromEntries(entries.map(([key, item]) => [key, abridged(item, depth - 1)]));
}

/** `path` is where the value is; for messages. */
function* withoutNulls(
  value: unknown,
  depth: number,
  path: string,
  isDue: (work: number) => boolean,
): Steps<unknown> {
  if (isDue(WORK_PER_VALUE)) yield;
  if (typeof value !== 'object' || value === null || depth === 0) return value;
  const within = (key: string | number): string => (path === '' ? String(key) : `${path}.${key}`);
  if (Array.isArray(value)) {
    if (value.length > MAX_LIST_LENGTH)
      throw unexpected(path, `a list of at most ${MAX_LIST_LENGTH} items`, value.length);
    if (!value.some((item) => typeof item === 'object')) return value;
    const items: unknown[] = [];
    for (const [index, item] of value.entries())
      items.push(yield* withoutNulls(item, depth - 1, within(index), isDue));
    return items;
  }
  const entries: [string, unknown][] = [];
  for (const [key, item] of Object.entries(value))
    if (item !== null) entries.push([key, yield* withoutNulls(item, depth - 1, within(key), isDue)]);
  return Object.fromEntries(entries);
}
