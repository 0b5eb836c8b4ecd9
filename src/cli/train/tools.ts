// What training needs of the rest of the program, as functions: tests give their own.
import type { Config } from '../../config.js';
import type { Run } from '../../train/run-types.js';
import type { Backend } from '../../train/types.js';
import type { TextTokenizer } from '../../tokenizer/types.js';
import type { Ui } from '../progress.js';
import type { Main } from '../serve.js';

export interface TrainingTools {
  /** Downloads and converts the model once; returns the folder of the converted one. */
  prepareModel(model: string, ui: Ui): Promise<string>;
  /** Of a converted model. */
  openTokenizer(folder: string): Promise<TextTokenizer>;
  openBackend(threads: number): Promise<Backend>;
  run: Run;
}

/** `config`: where models are kept and how they are converted. The trainer's modules are loaded when they are needed. */
export function trainingTools(config: Config, main: Main): TrainingTools {
  return {
    prepareModel: (model, ui) => main.prepareModel({ ...config, model }, ui),
    openTokenizer: async (folder) =>
      (await import('../../tokenizer/open-tokenizer.js')).openTokenizer(folder),
    async openBackend(threads) {
      const [{ Runtime }, { createOnnxBackend }] = await Promise.all([
        import('../../runtime/runtime.js'),
        import('../../train/onnx-backend.js'),
      ]);
      return createOnnxBackend(new Runtime(), threads);
    },
    run: async (request, hooks) => (await import('../../train/run.js')).runTraining(request, hooks),
  };
}
