// The fields that chat and text completions share, as zod schemas. A message here is the end of "Expected `x` to be ...".
// Fields that are accepted without effect are those that ask for nothing: labels of the caller's and settings at their only value.

import { z } from '@hono/zod-openapi';

export const MAX_CHOICES = 128;

export function numberIn(min: number, max: number) {
  const phrase = `a number between ${min} and ${max}`;
  return z.number(phrase).min(min, phrase).max(max, phrase);
}

export function integerIn(min: number, max = Number.MAX_SAFE_INTEGER) {
  const phrase =
    max === Number.MAX_SAFE_INTEGER
      ? `an integer of at least ${min}`
      : `an integer between ${min} and ${max}`;
  return z.int(phrase).min(min, phrase).max(max, phrase);
}

export const boolean = () => z.boolean('true or false');
export const string = () => z.string('a string');
export const modelName = () => z.string('the name of the base or of an adapter');

const tokenIds = (phrase: string) => z.array(integerIn(0), phrase);
const STOP_PHRASE = 'a string or up to 4 strings, none of them empty';
const stopString = z.string(STOP_PHRASE).min(1, STOP_PHRASE);
const SCALED = 'a list of one or more {name, scale}';

const streamOptions = z.strictObject(
  {
    include_usage: boolean().optional(),
    include_obfuscation: z.literal(false, 'false').optional(),
  },
  'an object',
);

/** Fields of the caller's own book-keeping, and settings whose only honoured value is what happens anyway. */
const vacuousFields = {
  user: string().optional(),
  safety_identifier: string().optional(),
  prompt_cache_key: string().optional(),
  metadata: z.record(z.string(), z.string('a string'), 'an object of strings').optional(),
  store: z.literal(false, 'false').optional(),
  service_tier: z.enum(['auto', 'default'], '"auto" or "default"').optional(),
};

const samplingFields = {
  temperature: numberIn(0, 2).optional(),
  top_p: numberIn(0, 1).optional(),
  top_k: integerIn(-1).optional(),
  min_p: numberIn(0, 1).optional(),
  frequency_penalty: numberIn(-2, 2).optional(),
  presence_penalty: numberIn(-2, 2).optional(),
  repetition_penalty: z.number('a number above 0').positive('a number above 0').optional(),
  logit_bias: z.record(z.string(), numberIn(-100, 100), 'an object of token ids and numbers').optional(),
  seed: integerIn(Number.MIN_SAFE_INTEGER).optional(),
  stop: z.union([stopString, z.array(stopString, STOP_PHRASE).max(4, STOP_PHRASE)], STOP_PHRASE).optional(),
  stop_token_ids: tokenIds('a list of token ids').optional(),
  n: integerIn(1, MAX_CHOICES).optional(),
  min_tokens: integerIn(0).optional(),
  ignore_eos: boolean().optional(),
};

const scaledAdapter = z.strictObject(
  { name: string(), scale: z.number('a finite number').optional() },
  'an object {name, scale}',
);

export const generationFields = {
  model: modelName(),
  /** Several LoRAs as one, on the base: y += sum of scale_i * delta_i. */
  adapters: z.array(scaledAdapter, SCALED).min(1, SCALED).optional(),
  ...samplingFields,
  stream: boolean().optional(),
  stream_options: streamOptions.optional(),
  ...vacuousFields,
};

const generation = z.object(generationFields);
/** What chat and text completions have in common once parsed. */
export type GenerationFields = z.infer<typeof generation>;
