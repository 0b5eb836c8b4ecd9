// What training needs of the rest of the program, as functions: tests give their own.
import type { Config } from '../../config.js';
import type { Run } from '../../train/run-types.js';
import type { TextTokenizer } from '../../tokenizer/types.js';
import type { Ui } from '../progress.js';
import type { Main } from '../serve.js';
import type { PreparedRun } from './prepared-run.js';

export interface TrainingTools {
  /** Downloads and converts the model once; returns the folder of the converted one. */
  prepareModel(model: string, ui: Ui): Promise<string>;
  /** Of a converted model. */
  openTokenizer(folder: string): Promise<TextTokenizer>;
  /** Padded tokens a second of a step of the run, which is computed for it. */
  measureTrial(
    run: Pick<PreparedRun, 'artifactFolder' | 'options' | 'parts'>,
    threads: number,
  ): Promise<number>;
  run: Run;
}

/** `config`: where models are kept and how they are converted. The trainer's modules are loaded when they are needed. */
export function trainingTools(config: Config, main: Main): TrainingTools {
  return {
    prepareModel: (model, ui) => main.prepareModel({ ...config, model }, ui),
    openTokenizer: async (folder) =>
      (await import('../../tokenizer/open-tokenizer.js')).openTokenizer(folder),
    async measureTrial({ artifactFolder, options, parts }, threads) {
      const [{ openArtifact }, { openTokenizer }, { measureTrial }] = await Promise.all([
        import('../../model/artifact-reader.js'),
        import('../../tokenizer/open-tokenizer.js'),
        import('../../train/plan/trial.js'),
      ]);
      const [artifact, tokenizer] = [openArtifact(artifactFolder), openTokenizer(artifactFolder)];
      return measureTrial({ artifact, tokenizer, options, parts, threads }, () => performance.now());
    },
    run: async (request, hooks) => (await import('../../train/run.js')).runTraining(request, hooks),
  };
}
