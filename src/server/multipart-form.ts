// A multipart form as the body of a request: only its known fields.

import type { Context } from 'hono';
import { GatewayError } from '../errors.js';
import { reason, unexpected, unsupportedParameter } from './request-body.js';

/** Throws invalid_value, and unsupported_parameter for a field that is not among these. */
export async function readForm(c: Context, fields: readonly string[]): Promise<FormData> {
  const type = c.req.header('content-type') ?? '';
  if (!type.toLowerCase().startsWith('multipart/form-data')) {
    const names = fields.map((field) => `\`${field}\``).join(' and ');
    throw unexpected('content-type', `multipart/form-data with ${names}`, type);
  }
  const form = await parse(c);
  const unknown = [...form.keys()].find((key) => !fields.includes(key));
  if (unknown !== undefined) throw unsupportedParameter(unknown);
  return form;
}

async function parse(c: Context): Promise<FormData> {
  try {
    return await c.req.formData();
  } catch (cause) {
    throw new GatewayError(
      'invalid_value',
      `Expected the request body to be a multipart form: ${reason(cause)}`,
      { cause },
    );
  }
}
