// Methods over the reference bases with values as training could leave them: every parameter moved at random.
import { randomStream } from '../../src/engine/random.js';
import type { Artifact } from '../../src/model/artifact-reader.js';
import { Runtime } from '../../src/runtime/runtime.js';
import { createMethod } from '../../src/train/methods/create-method.js';
import { createOnnxBackend } from '../../src/train/onnx-backend.js';
import { DEFAULT_TARGETS, type MethodOptions } from '../../src/train/options.js';
import type { TrainingMethod } from '../../src/train/types.js';

export const CHAT_TEMPLATE_HASH = 'c'.repeat(64);

/** One of every method that makes an adapter, small. */
export const ADAPTER_METHODS: Readonly<Record<string, MethodOptions>> = {
  lora: {
    name: 'lora',
    rank: 4,
    alpha: 8,
    rslora: false,
    dropout: 0,
    targets: DEFAULT_TARGETS,
    plusRatio: 1,
  },
  prefix: { name: 'prefix_tuning', numVirtualTokens: 5, projection: null },
  'prefix-mlp': { name: 'prefix_tuning', numVirtualTokens: 5, projection: { hidden: 7 } },
  prompt: { name: 'prompt_tuning', numVirtualTokens: 6, initText: null },
  'p-tuning-mlp': { name: 'p_tuning', numVirtualTokens: 4, encoder: 'mlp', hidden: 9 },
  'p-tuning-lstm': { name: 'p_tuning', numVirtualTokens: 4, encoder: 'lstm', hidden: 5 },
  bitfit: { name: 'bitfit', targets: ['q_proj', 'v_proj', 'o_proj', 'up_proj', 'down_proj'] },
  bottleneck: { name: 'bottleneck', size: 6 },
};

/** Each parameter gets numbers from [-strength, strength) added. */
export async function trainedMethod(
  artifact: Artifact,
  options: MethodOptions,
  after: (dispose: () => void) => void,
  strength = 0.2,
): Promise<TrainingMethod> {
  const backend = createOnnxBackend(new Runtime(), 1);
  after(() => backend.dispose());
  const tokenizer = { encode: () => [1], chatTemplateHash: CHAT_TEMPLATE_HASH };
  const context = { base: artifact.manifest, artifact, tokenizer, backend };
  const method = await createMethod(options, context, 11);
  const random = randomStream(12);
  for (const { values } of method.parameters)
    for (let i = 0; i < values.length; i++) values[i]! += strength * (2 * random() - 1);
  return method;
}
