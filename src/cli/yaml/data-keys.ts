// Keys of a training file: base, stage, method, folder and data.
import type { SupportedKey } from './supported-key.js';

const REWARD = 'it needs a reward model; `stage: dpo` learns from the same kind of preferences without one';

export const DATA_KEYS = {
  model_name_or_path: {
    kind: 'text',
    fallback: null,
    required: true,
    help: 'the base: a catalog name, a Hub id, a folder or a .gguf file, as `--model` of `serve`',
  },
  stage: {
    kind: 'choice',
    choices: ['pt', 'sft', 'dpo'],
    refused: {
      rm: 'reward models are not trained; `stage: dpo` takes the same pairs',
      ppo: REWARD,
      kto: 'it learns from single answers marked good or bad; the nearest is `stage: dpo`, with pairs of a better and a worse answer',
    },
    fallback: 'sft',
    help: 'continued pretraining on text, supervised fine-tuning, or direct preference optimization',
  },
  finetuning_type: {
    kind: 'choice',
    choices: ['lora', 'full', 'prefix_tuning', 'prompt_tuning', 'p_tuning', 'bitfit', 'bottleneck'],
    refused: {
      oft: 'orthogonal fine-tuning is not computed; the nearest is `finetuning_type: lora`',
      freeze:
        'training a few whole layers is not computed; the nearest is `finetuning_type: lora`, or `full`',
    },
    fallback: 'lora',
    help: 'the method; all but `lora` and `full` are beyond LLaMA-Factory',
  },
  output_dir: {
    kind: 'text',
    fallback: null,
    required: true,
    help: 'folder of the adapter, the checkpoints and the logs',
  },
  overwrite_output_dir: {
    kind: 'switch',
    fallback: false,
    help: 'begin anew where the folder holds a run; without it, such a run is taken up at its last checkpoint',
  },
  resume_from_checkpoint: {
    kind: 'text',
    fallback: null,
    orTrue: true,
    help: 'a checkpoint folder, or `true` for the newest in `output_dir`',
  },

  dataset: {
    kind: 'names',
    fallback: null,
    required: true,
    help: 'names in `dataset_info.json`, or paths of .json and .jsonl files',
  },
  eval_dataset: { kind: 'names', fallback: null, help: 'the same, held out to measure the loss on' },
  dataset_dir: { kind: 'text', fallback: 'data', help: 'folder of `dataset_info.json` and its files' },
  max_samples: { kind: 'integer', min: 1, fallback: null, help: 'examples taken of each dataset' },
  cutoff_len: { kind: 'integer', min: 16, fallback: 2048, help: 'longest example, in tokens' },
  mask_history: {
    kind: 'switch',
    fallback: false,
    help: 'of a conversation only the last answer is learned',
  },
  packing: {
    kind: 'switch',
    fallback: null,
    fallbackWords: 'true for `pt`, else false',
    help: 'several examples share a row; none sees another, as with `neat_packing`',
  },
  neat_packing: { kind: 'switch', fallback: false, help: 'the same as `packing: true`' },
  val_size: {
    kind: 'number',
    min: 0,
    fallback: 0,
    help: 'held out of the training data where there is no `eval_dataset`: a share below 1, or a number of examples',
  },
} as const satisfies Readonly<Record<string, SupportedKey>>;
