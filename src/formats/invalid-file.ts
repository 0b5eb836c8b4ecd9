// The one way in which the readers of this folder refuse a file. It says nothing about where the file came from.

import { GatewayError } from '../errors.js';

/** A GatewayError invalid_file whose message and param name the file. */
export function invalidFile(file: string, problem: string, cause?: unknown): GatewayError {
  return new GatewayError('invalid_file', `${file}: ${problem}`, { param: file, cause });
}
