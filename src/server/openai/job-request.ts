// POST /v1/fine_tuning/jobs: the body, and what it asks of the training service. What is not honoured is refused by name.

import { z } from '@hono/zod-openapi';
import { GatewayError } from '../../errors.js';
import type { Auto, JobRequest, OptionChoices } from '../../train/jobs/types.js';
import type { Stage } from '../../train/options.js';
import { ropeText } from '../../adapters/rope-origin.js';
import type { BaseDescription } from '../dependencies.js';
import { unexpected, unsupportedParameter } from '../request-body.js';
import { integerIn, modelName, string } from './fields.js';
import {
  EXTENSION_FIELD,
  jobExtension,
  type JobExtension,
  parseExtension,
  toOptionChoices,
} from './job-extension.js';

const MAX_BATCH = 256;
const MAX_EPOCHS = 50;
const MAX_BETA = 2;
const SUFFIX = 'a string of 1 to 64 letters, digits, ".", "_" or "-"';
const METADATA = 'an object of at most 16 strings, each up to 512 characters under a key of up to 64';

function auto(schema: z.ZodNumber, phrase: string) {
  return z.union([schema, z.literal('auto')], phrase);
}
const hyperparameters = {
  batch_size: auto(integerIn(1, MAX_BATCH), `an integer between 1 and ${MAX_BATCH}, or "auto"`).optional(),
  learning_rate_multiplier: auto(z.number().positive(), 'a number above 0, or "auto"').optional(),
  n_epochs: auto(integerIn(1, MAX_EPOCHS), `an integer between 1 and ${MAX_EPOCHS}, or "auto"`).optional(),
};
const supervised = z.strictObject(hyperparameters, 'an object');
const preference = z.strictObject(
  {
    ...hyperparameters,
    beta: auto(
      z.number().positive().max(MAX_BETA),
      `a number above 0 and at most ${MAX_BETA}, or "auto"`,
    ).optional(),
  },
  'an object',
);

const method = z.strictObject(
  {
    type: z.enum(['supervised', 'dpo', 'reinforcement'], '"supervised" or "dpo"'),
    supervised: z.strictObject({ hyperparameters: supervised.optional() }, 'an object').optional(),
    dpo: z.strictObject({ hyperparameters: preference.optional() }, 'an object').optional(),
    reinforcement: z.unknown().optional(),
  },
  'an object {type, ...}',
);

const metadata = z
  .record(z.string().max(64, METADATA), z.string(METADATA).max(512, METADATA), METADATA)
  .refine((pairs) => Object.keys(pairs).length <= 16, METADATA);

export const jobRequest = z.strictObject({
  model: modelName(),
  training_file: string(),
  validation_file: string().optional(),
  suffix: z
    .string(SUFFIX)
    .regex(/^[\w.-]{1,64}$/, SUFFIX)
    .optional(),
  seed: integerIn(0, 2 ** 31 - 1).optional(),
  metadata: metadata.optional(),
  method: method.optional(),
  /** Deprecated: those of the supervised method. */
  hyperparameters: supervised.optional(),
  integrations: z.array(z.unknown(), 'a list').optional(),
  [EXTENSION_FIELD]: z.record(z.string(), z.unknown(), 'an object').optional(),
});
export type JobRequestBody = z.infer<typeof jobRequest>;

/** For /openapi.json: with all fields of the extension. */
export const documentedJobRequest = jobRequest.extend({ [EXTENSION_FIELD]: jobExtension.optional() });

/** What a run's data and positions have to fit. */
export type TrainedBase = Pick<BaseDescription, 'contextLength' | 'ropeScaling'>;

/** Throws unsupported_parameter and invalid_value. The model is not looked at. */
export function toJobRequest(body: JobRequestBody, base: TrainedBase): JobRequest {
  if (body.integrations !== undefined && body.integrations.length > 0)
    throw unsupportedParameter('integrations');
  const extension = parseExtension(body[EXTENSION_FIELD] ?? {});
  const chosen = chosenHyperparameters(body);
  const stage = stageOf(body, extension);
  checkTogether(extension, chosen, stage, base);
  return {
    trainingFile: body.training_file,
    validationFile: body.validation_file ?? null,
    suffix: body.suffix ?? null,
    metadata: body.metadata ?? {},
    adapterName: extension.adapter_name ?? null,
    choices: {
      ...toOptionChoices(extension),
      ropeScaling: base.ropeScaling ?? undefined,
      stage,
      seed: body.seed,
      batchSize: chosen.batch_size ?? 'auto',
      epochs: chosen.n_epochs ?? 'auto',
      learningRateMultiplier: chosen.learning_rate_multiplier ?? 'auto',
      dpo: {
        beta: chosen.beta ?? 'auto',
        loss: extension.pref_loss,
        labelSmoothing: extension.dpo_label_smoothing,
      },
    } satisfies OptionChoices,
  };
}

interface Chosen {
  readonly batch_size?: Auto | undefined;
  readonly learning_rate_multiplier?: Auto | undefined;
  readonly n_epochs?: Auto | undefined;
  readonly beta?: Auto | undefined;
}

function chosenHyperparameters({ method: chosen, hyperparameters: old }: JobRequestBody): Chosen {
  if (chosen === undefined) return old ?? {};
  if (old !== undefined) throw unexpected('hyperparameters', 'absent where `method` is given', old);
  if (chosen.type === 'reinforcement' || chosen.reinforcement !== undefined)
    throw new GatewayError(
      'unsupported_parameter',
      'The method "reinforcement" is not supported; use "supervised" or "dpo"',
      { param: chosen.type === 'reinforcement' ? 'method.type' : 'method.reinforcement' },
    );
  const other = chosen.type === 'dpo' ? 'supervised' : 'dpo';
  if (chosen[other] !== undefined)
    throw unexpected(`method.${other}`, `absent where \`method.type\` is "${chosen.type}"`, chosen[other]);
  return chosen[chosen.type]?.hyperparameters ?? {};
}

function stageOf({ method: chosen }: JobRequestBody, { stage }: JobExtension): Stage {
  const isPreference = chosen?.type === 'dpo';
  if (stage === undefined) return isPreference ? 'dpo' : 'sft';
  if ((stage === 'dpo') === isPreference) return stage;
  throw unexpected(
    `${EXTENSION_FIELD}.stage`,
    isPreference ? '"dpo", as `method.type` is' : '"sft" or "pt" unless `method.type` is "dpo"',
    stage,
  );
}

/** Choices that fit by themselves and not together. */
function checkTogether(extension: JobExtension, chosen: Chosen, stage: Stage, base: TrainedBase): void {
  const refuse = (field: keyof JobExtension, expectation: string): never => {
    throw unexpected(`${EXTENSION_FIELD}.${field}`, expectation, extension[field]);
  };
  const isFull = extension.finetuning_type === 'full';
  if (extension.learning_rate !== undefined && typeof chosen.learning_rate_multiplier === 'number')
    refuse('learning_rate', 'absent where `learning_rate_multiplier` is given');
  const { contextLength } = base;
  if ((extension.cutoff_len ?? 0) > contextLength)
    refuse('cutoff_len', `at most ${contextLength}, the window of the base as it is served`);
  const rope = ropeText(base.ropeScaling);
  if ((extension.rope_scaling ?? rope) !== rope)
    refuse(
      'rope_scaling',
      `"${rope}", with which the base is served and the adapter would be; start the server with --rope-scaling for another`,
    );
  if (isFull && (extension.quantization ?? 'none') !== 'none')
    refuse('quantization', 'absent with `finetuning_type` "full": the base itself is trained');
  if (isFull && stage === 'dpo')
    refuse('finetuning_type', 'an adapter with DPO: the reference is the base, which a full run changes');
  if (isFull && extension.adapter_name !== undefined)
    refuse('adapter_name', 'absent with `finetuning_type` "full": the result is a base, no adapter');
  if (stage === 'dpo' && extension.packing === true)
    refuse('packing', 'false with DPO: the answers of a pair are compared row by row');
  if (stage !== 'dpo' && extension.pref_loss !== undefined) refuse('pref_loss', 'absent without DPO');
  if (stage !== 'dpo' && extension.dpo_label_smoothing !== undefined)
    refuse('dpo_label_smoothing', 'absent without DPO');
  if ((extension.dpo_label_smoothing ?? 0) > 0 && (extension.pref_loss ?? 'sigmoid') !== 'sigmoid')
    refuse('dpo_label_smoothing', 'absent unless `pref_loss` is "sigmoid"');
  if ((extension.sample_steps === undefined) !== (extension.sample_prompts === undefined))
    throw unexpected(
      `${EXTENSION_FIELD}.${extension.sample_steps === undefined ? 'sample_steps' : 'sample_prompts'}`,
      'given where the other of `sample_steps` and `sample_prompts` is',
      undefined,
    );
  const accumulation = extension.gradient_accumulation_steps;
  if (accumulation === undefined) return;
  if (typeof chosen.batch_size !== 'number')
    refuse('gradient_accumulation_steps', 'absent unless `batch_size` is a number');
  else if (chosen.batch_size % accumulation !== 0)
    refuse('gradient_accumulation_steps', `a divisor of \`batch_size\`, ${chosen.batch_size}`);
}
