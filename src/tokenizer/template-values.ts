// Values of the template engine, and what Python would print for them.

import { Environment } from '@huggingface/jinja';
import { reprString } from './python-text.js';
import { countWork, type Steps, TEXT_PER_STEP } from './steps.js';

/** What an item of a list costs in a template beside its characters, in characters. */
export const WORK_PER_ITEM = 1 << 10;

/** A value as the engine holds it: ArrayValue holds an array of values, ObjectValue a Map of them, StringValue a string ... */
export interface TemplateValue {
  readonly type: string;
  readonly value: unknown;
  toString(): string;
}

/** The variables of a block; those of its parent are seen through it. */
export interface Scope {
  /** Declares a variable with a JavaScript value, and returns it as the engine's. */
  set(name: string, value: unknown): TemplateValue;
  setVariable(name: string, value: TemplateValue): TemplateValue;
}

export function newScope(parent?: Scope): Scope {
  return new Environment(parent);
}

/** A JavaScript value as the engine's. */
export function wrapped(value: unknown): TemplateValue {
  return newScope().set('value', value);
}

/** A list as the engine's, which costs some ten microseconds an item. */
export function* wrappedList(items: unknown): Steps<TemplateValue> {
  const isDue = countWork(TEXT_PER_STEP);
  const list = wrapped([]);
  if (Array.isArray(items) && Array.isArray(list.value))
    for (const item of items) {
      list.value.push(wrapped(item));
      if (isDue(WORK_PER_ITEM)) yield;
    }
  return list;
}

/** str() of Python; nothing for an undefined value. */
export function printed(value: TemplateValue): string {
  if (typeof value.value === 'string') return value.value;
  return value.type === 'UndefinedValue' ? '' : repr(value);
}

/** repr() of Python. */
export function repr(value: TemplateValue): string {
  if (typeof value.value === 'string') return reprString(value.value);
  if (value.type === 'NullValue') return 'None';
  if (value.type === 'UndefinedValue') return 'Undefined';
  if (value.type === 'BooleanValue') return value.value === true ? 'True' : 'False';
  if (Array.isArray(value.value)) {
    const items = value.value.map(repr);
    if (value.type !== 'TupleValue') return `[${items.join(', ')}]`;
    return `(${items.join(', ')}${items.length === 1 ? ',' : ''})`;
  }
  const entries = mapEntries(value);
  if (entries === null) return value.toString();
  return `{${entries.map(([key, item]) => `${reprString(key)}: ${repr(item)}`).join(', ')}}`;
}

/** What a for statement goes over: items, characters, keys; nothing for an undefined value. */
export function iterated(value: TemplateValue): readonly TemplateValue[] {
  if (value.type === 'UndefinedValue') return [];
  if (Array.isArray(value.value)) return value.value;
  if (typeof value.value === 'string') return Array.from(value.value, (char) => wrapped(char));
  const entries = mapEntries(value);
  if (entries === null) throw new Error(`${repr(value)} is not iterable`);
  return entries.map(([key]) => wrapped(key));
}

export function isNumber({ type }: TemplateValue): boolean {
  return type === 'IntegerValue' || type === 'FloatValue' || type === 'BooleanValue';
}

/** The `loop` variable at an item. */
export function loopVariable(items: readonly TemplateValue[], index: number): TemplateValue {
  const left = items.length - index;
  const loop = wrapped({
    index: index + 1,
    index0: index,
    revindex: left,
    revindex0: left - 1,
    first: index === 0,
    last: left === 1,
    length: items.length,
  });
  if (loop.value instanceof Map) {
    loop.value.set('previtem', items[index - 1] ?? wrapped(undefined));
    loop.value.set('nextitem', items[index + 1] ?? wrapped(undefined));
  }
  return loop;
}

/** The least (sign 1) or greatest (sign -1) number. */
export function extreme(items: readonly TemplateValue[], sign: 1 | -1): TemplateValue {
  const [first, ...others] = items;
  if (first === undefined) return wrapped(undefined);
  const less = (a: TemplateValue, b: TemplateValue) => sign * (Number(a.value) - Number(b.value)) < 0;
  return others.reduce((best, item) => (less(item, best) ? item : best), first);
}

function mapEntries(value: TemplateValue): [string, TemplateValue][] | null {
  return value.value instanceof Map ? [...value.value.entries()] : null;
}
