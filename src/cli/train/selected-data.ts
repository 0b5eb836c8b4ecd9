// The datasets that a training file names, read, cut to its number of samples and joined.
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readDatasetInfo } from '../../data/dataset-info.js';
import { joinDatasets, readDataset, type Dataset } from '../../data/dataset-reader.js';
import { sampleDataset } from '../../data/dataset-split.js';
import type { Example } from '../../data/types.js';
import { GatewayError } from '../../errors.js';
import type { DatasetName, DataSelection } from '../yaml/training-config.js';

const INFO_FILE = 'dataset_info.json';

export interface SelectedData {
  readonly training: Dataset;
  /** null where none is named. */
  readonly validation: Dataset | null;
}

/** Throws GatewayError not_found where a file is not there, invalid_file where one cannot be used. */
export function readSelectedData(data: DataSelection, seed: number): SelectedData {
  const read = (names: readonly DatasetName[]): Dataset =>
    joinDatasets(names.map((name) => readOne(name, data, seed)));
  const training = read(data.datasets);
  assertOneKind(training);
  const { rows } = training;
  return {
    training: data.maskHistory
      ? { ...training, rows: rows.map((row) => ({ ...row, example: onlyLastAnswer(row.example) })) }
      : training,
    validation: data.evalDatasets.length === 0 ? null : read(data.evalDatasets),
  };
}

function readOne(named: DatasetName, data: DataSelection, seed: number): Dataset {
  if (named.kind === 'file')
    return firstRows(readDataset(readText(named.path, 'dataset'), basename(named.path)), data.maxSamples);
  const infoText = readText(join(data.folder, INFO_FILE), 'dataset_dir');
  const [info] = readDatasetInfo(infoText, [named.name]);
  const dataset = readDataset(
    readText(join(data.folder, info!.fileName), INFO_FILE),
    info!.fileName,
    info!.mapping,
  );
  const sampled = info!.numSamples === null ? dataset : sampleDataset(dataset, info!.numSamples, seed);
  return firstRows(sampled, data.maxSamples);
}

/** As LLaMA-Factory's max_samples. */
function firstRows(dataset: Dataset, count: number | null): Dataset {
  return count === null ? dataset : { ...dataset, rows: dataset.rows.slice(0, count) };
}

function assertOneKind({ rows }: Dataset): void {
  const other = rows.find(({ example }) => example.kind !== rows[0]!.example.kind);
  if (other === undefined) return;
  throw new GatewayError(
    'invalid_file',
    `Expected all of \`dataset\` to be of one kind, got ${rows[0]!.example.kind} (${rows[0]!.place}) and ${other.example.kind} (${other.place})`,
    { param: 'dataset' },
  );
}

function onlyLastAnswer(example: Example): Example {
  if (example.kind !== 'chat') return example;
  const last = example.messages.findLastIndex(({ role }) => role === 'assistant');
  return {
    ...example,
    messages: example.messages.map((message, index) =>
      message.role === 'assistant' && index !== last ? { ...message, weight: 0 } : message,
    ),
  };
}

function readText(path: string, param: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new GatewayError(
      'not_found',
      `Expected a file at ${path}, which cannot be read: ${String(cause)}`,
      {
        param,
        cause,
      },
    );
  }
}
