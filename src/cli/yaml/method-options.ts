// The method of a training file, from `finetuning_type` and the keys that belong to it.
import { nearest } from '../nearest.js';
import { PROJECTIONS, type Projection } from '../../model/architecture.js';
import { DEFAULT_TARGETS, type MethodOptions } from '../../train/options.js';
import type { KeyValues } from './supported-keys.js';

/** Adds to `problems` where `lora_target` names no projection. */
export function methodOf(values: KeyValues, problems: string[]): MethodOptions {
  const { finetuning_type: name, num_virtual_tokens: numVirtualTokens } = values;
  switch (name) {
    case 'lora':
      return {
        name,
        rank: values.lora_rank,
        alpha: values.lora_alpha ?? 2 * values.lora_rank,
        rslora: values.use_rslora,
        dropout: values.lora_dropout,
        targets: targetsOf(values, problems),
        plusRatio: values.loraplus_lr_ratio ?? 1,
      };
    case 'prefix_tuning':
      return {
        name,
        numVirtualTokens,
        projection: values.prefix_projection ? { hidden: values.encoder_hidden_size } : null,
      };
    case 'prompt_tuning':
      return { name, numVirtualTokens, initText: values.prompt_tuning_init_text };
    case 'p_tuning':
      return {
        name,
        numVirtualTokens,
        encoder: values.encoder_reparameterization_type,
        hidden: values.encoder_hidden_size,
      };
    case 'bitfit':
      return { name, targets: targetsOf(values, problems) };
    case 'bottleneck':
      return { name, size: values.bottleneck_size };
    case 'full':
      return { name };
  }
}

function targetsOf({ lora_target: names }: KeyValues, problems: string[]): readonly Projection[] {
  if (names.includes('all')) return DEFAULT_TARGETS;
  const isProjection = (name: string): name is Projection => PROJECTIONS.some((known) => known === name);
  for (const name of names)
    if (!isProjection(name))
      problems.push(
        `Expected \`lora_target\` to be all or some of ${PROJECTIONS.join(', ')}, got \`${name}\`${nearest(name, PROJECTIONS)}`,
      );
  return PROJECTIONS.filter((projection) => names.includes(projection));
}
