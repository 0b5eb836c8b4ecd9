// Tokenizing beside everything else: a text of megabytes takes seconds, so the event loop gets a turn after each of the tokenizer's
// steps, and a text that cannot fit is given up as soon as that is certain.

import { setImmediate } from 'node:timers/promises';
import { GatewayError } from '../errors.js';
import type { Steps } from '../tokenizer/steps.js';
import type { TokenLimit } from '../tokenizer/types.js';
import type { Services } from './services.js';

/** The result of the steps, with a turn of the event loop between them. A short text takes one step and no turn. */
export async function finishSteps<T>(steps: Steps<T>): Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    await setImmediate();
  }
}

/** What may be answered: the context. `param` is what holds the text. */
export function contextLimit({ maxModelLen }: Services, param: string): TokenLimit {
  return {
    maxTokens: maxModelLen,
    exceeded: () =>
      new GatewayError(
        'context_length_exceeded',
        `This model's maximum context length is ${maxModelLen} tokens, but \`${param}\` has more; shorten it`,
        { param },
      ),
  };
}
