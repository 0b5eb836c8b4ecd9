// The three ways in which an adapter's files are refused. Every message names the file, key or tensor, what was found, and what to do.

import { GatewayError } from '../errors.js';

/** The files are damaged or contradict themselves. `param` is the tensor, key or file at fault. */
export function invalidAdapter(message: string, param: string, cause?: unknown): GatewayError {
  return new GatewayError('invalid_adapter', message, { param, cause });
}

/** The files ask for something that is not served. */
export function unsupportedAdapter(message: string, param: string): GatewayError {
  return new GatewayError('unsupported_adapter', message, { param });
}

/** The files were made for a model of other sizes. */
export function baseMismatch(message: string, param: string): GatewayError {
  return new GatewayError('adapter_base_mismatch', message, { param });
}

/** `[8, 64]` */
export function shapeText(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}
