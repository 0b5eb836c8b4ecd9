// From a training file to a run that could begin: the base converted, the data read and tokenized, every choice made, the plan.
import { ropeText } from '../../adapters/rope-origin.js';
import { openArtifact } from '../../model/artifact-reader.js';
import type { Manifest } from '../../model/artifact.js';
import { splitDataset } from '../../data/dataset-split.js';
import { partsOf, tokenizeDataset } from '../../data/tokenized-dataset.js';
import type { TrainingOptions } from '../../train/options.js';
import { memoryLimit } from '../../train/plan/machine-memory.js';
import { sizeOfRun } from '../../train/plan/run-size.js';
import { planTraining, type TrainingPlan } from '../../train/plan/training-plan.js';
import type { Ui } from '../progress.js';
import { completeOptions } from '../yaml/complete-options.js';
import type { TrainingConfig } from '../yaml/training-config.js';
import { readSelectedData, type SelectedData } from './selected-data.js';
import type { TrainingTools } from './tools.js';

export interface PreparedRun {
  readonly artifactFolder: string;
  readonly manifest: Manifest;
  readonly options: TrainingOptions;
  readonly data: SelectedData;
  /** What is trained on, tokenized. */
  readonly parts: ReturnType<typeof partsOf>;
  readonly plan: TrainingPlan;
}

/** Tells about dropped rows. Throws GatewayError where the base, the data or the options cannot be used. */
export async function prepareRun(
  config: TrainingConfig,
  tools: Pick<TrainingTools, 'prepareModel' | 'openTokenizer'>,
  ui: Ui,
): Promise<PreparedRun> {
  const data = readSelectedData(config.data, config.options.seed);
  tellDropped(data, ui);
  const artifactFolder = await tools.prepareModel(config.model, ui);
  const { manifest } = openArtifact(artifactFolder);
  const tokenizer = await tools.openTokenizer(artifactFolder);
  const facts = { architecture: manifest.architecture, numExamples: data.training.rows.length };
  // Only the number of steps is left open, and nothing that decides it depends on it.
  const draft = completeOptions(config, { ...facts, totalSteps: 1 });
  const trained =
    data.validation === null && draft.validationShare > 0
      ? splitDataset(data.training, draft.validationShare, draft.seed).training
      : data.training;
  const tokenized = tokenizeDataset(trained, tokenizer, {
    stage: draft.stage,
    cutoffLength: draft.cutoffLength,
    trainOnPrompt: false,
    maskHistory: false,
  });
  const parts = partsOf(tokenized);
  const options = completeOptions(config, { ...facts, totalSteps: sizeOfRun(parts, draft).totalSteps });
  if (options.ropeScaling !== null)
    ui.log(`positions are scaled: serve the result with --rope-scaling ${ropeText(options.ropeScaling)}`);
  const plan = planTraining({
    architecture: manifest.architecture,
    options,
    parts,
    memoryBytes: memoryLimit(),
  });
  return { artifactFolder, manifest, options, data, parts, plan };
}

function tellDropped({ training, validation }: SelectedData, ui: Ui): void {
  const dropped = [...training.dropped, ...(validation?.dropped ?? [])];
  const [first] = dropped;
  if (first !== undefined)
    ui.log(`${dropped.length} rows are left out; the first is ${first.place}: ${first.detail}`);
}
