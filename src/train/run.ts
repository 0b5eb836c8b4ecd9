// One training run from files to an adapter: data, plan, base, method and trainer put together. What the worker process and the command
// line both call.

import { readFile } from 'node:fs/promises';
import { createBatches } from '../data/batches.js';
import { joinDatasets, readDataset, type Dataset } from '../data/dataset-reader.js';
import { splitDataset } from '../data/dataset-split.js';
import { inspect } from '../data/inspection.js';
import { partsOf, tokenizeDataset, type TokenizedDataset } from '../data/tokenized-dataset.js';
import { openArtifact } from '../model/artifact-reader.js';
import { openTokenizer } from '../tokenizer/open-tokenizer.js';
import type { TextTokenizer } from '../tokenizer/types.js';
import type { BatchSource } from './batch-source.js';
import { openTrainingModel } from './open-model.js';
import type { TrainingOptions } from './options.js';
import { memoryLimit } from './plan/machine-memory.js';
import { PAD_TO } from './plan/run-size.js';
import { assertFits, planTraining } from './plan/training-plan.js';
import type { DataFile, Run, RunHooks, RunRequest } from './run-types.js';
import { trainingArchitecture } from './training-architecture.js';
import { train } from './trainer.js';

export const runTraining: Run = async (request, hooks) => {
  const { options, folder } = request;
  const artifact = openArtifact(request.artifactFolder);
  const tokenizer = openTokenizer(request.artifactFolder);
  const { training, validation } = await openData(request, tokenizer, hooks);
  const arch = trainingArchitecture(artifact.manifest.architecture, options);
  const parts = partsOf(training);
  assertFits(planTraining({ architecture: arch, options, parts, memoryBytes: memoryLimit() }));
  const { yieldPoint } = hooks;
  const open = await openTrainingModel({
    artifact,
    tokenizer,
    options,
    threads: request.threads,
    yieldPoint,
  });
  try {
    return await train({
      model: open.model,
      method: open.method,
      batches: batchesOf(training, options),
      evalBatches: validation === null ? null : batchesOf(validation, options),
      options,
      folder,
      emit: hooks.emit,
      control: () => hooks.control(),
      clock: Date.now,
      sample: options.samplePrompts.length === 0 ? null : (step, files) => hooks.sample(step, files),
      endTokens: new Set(tokenizer.eosTokenIds),
    });
  } finally {
    await open.dispose();
  }
};

interface Data {
  readonly training: TokenizedDataset;
  readonly validation: TokenizedDataset | null;
}

async function openData(
  { options, trainingFiles, validationFile }: RunRequest,
  tokenizer: TextTokenizer,
  hooks: RunHooks,
): Promise<Data> {
  const all = joinDatasets(await Promise.all(trainingFiles.map(readFileOf)));
  const tokenizing = {
    stage: options.stage,
    cutoffLength: options.cutoffLength,
    trainOnPrompt: false,
    maskHistory: false,
  };
  const tokenize = (dataset: Dataset): TokenizedDataset => tokenizeDataset(dataset, tokenizer, tokenizing);
  const split =
    validationFile === null && options.validationShare > 0
      ? splitDataset(all, options.validationShare, options.seed)
      : { training: all, validation: validationFile === null ? null : await readFileOf(validationFile) };
  const training = tokenize(split.training);
  tellOf(training, tokenizer, hooks);
  return { training, validation: split.validation === null ? null : tokenize(split.validation) };
}

async function readFileOf({ path, name }: DataFile): Promise<Dataset> {
  return readDataset(await readFile(path, 'utf8'), name);
}

/** Nothing is dropped or cut silently. */
function tellOf(dataset: TokenizedDataset, tokenizer: TextTokenizer, { emit }: RunHooks): void {
  const seen = inspect(dataset, tokenizer, 0);
  const say = (level: 'info' | 'warn', message: string): void => emit({ type: 'message', level, message });
  say(
    'info',
    `${seen.numUsed} of ${seen.numRows} rows are trained on: ${seen.tokens.total} tokens, ${seen.supervised.count} of them learned; the longest has ${seen.tokens.max}`,
  );
  const dropped = Object.entries(seen.dropped);
  if (dropped.length > 0)
    say(
      'warn',
      `rows left out: ${dropped.map(([reason, count]) => `${count} ${reason}`).join(', ')}. ${seen.droppedExamples.join('; ')}`,
    );
  if (seen.truncated.count > 0)
    say(
      'warn',
      `${seen.truncated.count} rows (${percent(seen.truncated.share)}) are cut to the cutoff length; ${seen.numAnswersCut} answers lost their end`,
    );
  if (seen.ignoredFields.length > 0)
    say('warn', `fields that are not used: ${seen.ignoredFields.join(', ')}`);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function batchesOf(
  dataset: TokenizedDataset,
  { batchSize, packing, cutoffLength, seed }: TrainingOptions,
): BatchSource {
  return createBatches(partsOf(dataset), { batchSize, packing, cutoffLength, seed, padTo: PAD_TO });
}
