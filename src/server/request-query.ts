// A request's query as what a schema makes of it. An unknown name is refused as an unknown field of a body is.

import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { parseBody } from './request-body.js';

/** `metadata[key]=value` pairs come together under `metadata`. Throws invalid_value and unsupported_parameter. */
export function readQuery<T extends z.ZodType>(c: Context, schema: T): z.infer<T> {
  const values: Record<string, unknown> = {};
  const metadata: Record<string, string> = {};
  for (const [name, value] of new URL(c.req.url).searchParams) {
    const key = /^metadata\[(.+)\]$/.exec(name)?.[1];
    if (key === undefined) values[name] = value;
    else metadata[key] = value;
  }
  return parseBody(Object.keys(metadata).length > 0 ? { ...values, metadata } : values, schema);
}

export function queryInteger(min: number, max: number) {
  const phrase = `an integer between ${min} and ${max}`;
  return z
    .string(phrase)
    .regex(/^\d{1,9}$/, phrase)
    .transform(Number)
    .refine((value) => value >= min && value <= max, phrase);
}

export function querySwitch() {
  return z.enum(['true', 'false'], 'true or false').transform((value) => value === 'true');
}
