// Which names an adapter or an alias may take. A name is a model id on the wire, a label in metrics and part of a URL.

import { GatewayError } from '../errors.js';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;

/** Throws GatewayError invalid_value. */
export function checkAdapterName(name: string, baseName: string, param = 'name'): void {
  if (!NAME.test(name))
    throw new GatewayError(
      'invalid_value',
      `Expected \`${param}\` to be 1 to 128 letters, digits, ".", "_", ":" or "-", beginning with a letter or digit, got ${JSON.stringify(name.slice(0, 160))}`,
      { param },
    );
  if (name === baseName)
    throw new GatewayError(
      'invalid_value',
      `\`${param}\` is ${JSON.stringify(name)}, which is the base model's; choose another`,
      { param },
    );
}
