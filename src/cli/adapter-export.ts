// `adapters export`: an adapter of the data folder as it is stored, or merged into its base in a format of other programs.
// It needs no server, and one may run on the same folder: nothing is changed there.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { adapterBase } from '../adapters/base.js';
import { mergeable } from '../adapters/merge-weights.js';
import { addedBiases, mergedModel } from '../adapters/merged-model.js';
import { readPeft } from '../adapters/peft.js';
import { readStoredAdapter, type StoredAdapter } from '../adapters/stored-files.js';
import type { Config, ConfigOf } from '../config.js';
import { GatewayError } from '../errors.js';
import { type Artifact, openArtifact } from '../model/artifact-reader.js';
import type { DenseModel } from '../model/dense-model.js';
import { syncFolder } from '../model/durable-files.js';
import { withBiases } from '../model/export-biases.js';
import { exportGguf } from '../model/export-gguf.js';
import { exportSafetensors } from '../model/export-safetensors.js';
import { makeNewPath } from '../model/new-path.js';
import { withRopeScaling } from '../model/rope-choice.js';
import type { ExportProgress } from '../model/tensor-stream.js';
import { DEFAULT_TENANT } from '../tenants/types.js';
import { ggufTables } from '../tokenizer/gguf-tables.js';
import { hubFiles } from '../tokenizer/hub-files.js';
import { openTokenizer, readTokenizerFiles } from '../tokenizer/open-tokenizer.js';
import { countInterrupts, INTERRUPTED } from './interrupts.js';
import { ProgressUi } from './progress.js';
import type { Main } from './serve.js';
import type { Terminal } from './terminal.js';

type ExportOptions = Pick<ConfigOf<'export'>, 'merged' | 'exportFormat' | 'exportType' | 'exportOut'>;
type WeightType = ExportOptions['exportType'];

/** Prints the new path on stdout. 130 when it was interrupted; then nothing is left behind. */
export async function exportAdapter(
  reference: string,
  options: ExportOptions,
  config: Config,
  terminal: Terminal,
  main: Pick<Main, 'prepareModel'>,
): Promise<number> {
  const { exportOut: out } = options;
  if (out === null)
    throw new GatewayError('invalid_config', 'Expected `out` to be given: the new folder or file', {
      param: 'out',
    });
  const ui = new ProgressUi(terminal.stderr);
  const interrupts = countInterrupts(terminal);
  const controller = new AbortController();
  const interrupted = interrupts.reach(1).then(() => controller.abort());
  try {
    const folder = await Promise.race([main.prepareModel(config, ui), interrupted]);
    if (folder === undefined) return INTERRUPTED;
    const artifact = withRopeScaling(openArtifact(folder), config.ropeScaling);
    const { manifest: base } = artifact;
    const stored = await readStoredAdapter(reference, {
      dataDir: config.dataDir,
      base,
      tenant: DEFAULT_TENANT,
    });
    if (options.merged) await writeMerged(artifact, stored, out, options, { ui, signal: controller.signal });
    else await writeStored(stored, out);
    terminal.stdout.write(`${out}\n`);
    return 0;
  } catch (error) {
    if (controller.signal.aborted) return INTERRUPTED;
    throw error;
  } finally {
    interrupts.stop();
  }
}

async function writeStored({ info, files }: StoredAdapter, out: string): Promise<void> {
  await makeNewPath(out, info.sizeBytes, async (temporary) => {
    mkdirSync(temporary);
    for (const [name, bytes] of files) writeFileSync(join(temporary, name), bytes);
    await syncFolder(temporary);
  });
}

async function writeMerged(
  artifact: Artifact,
  { info, files }: StoredAdapter,
  out: string,
  { exportFormat: format, exportType }: ExportOptions,
  { ui, signal }: { readonly ui: ProgressUi; readonly signal: AbortSignal },
): Promise<void> {
  const { manifest, folder } = artifact;
  const { content } = await readPeft(files, adapterBase(artifact, openTokenizer(folder).chatTemplateHash));
  const adapter = mergeable(info.name, content);
  const architecture = withBiases(manifest.architecture, addedBiases(adapter), format);
  const model: DenseModel = {
    ...mergedModel(artifact, adapter, architecture),
    name: `${manifest.name}-${info.name}`,
  };
  const progress = progressOf(model, ui, signal);
  const tokenizer = readTokenizerFiles(folder);
  if (format === 'gguf') {
    const tables = ggufTables(tokenizer, { ...manifest, vocabSize: architecture.vocabSize });
    await exportGguf(model, out, { type: upperCase(exportType), tokenizer: tables, ...progress });
    return;
  }
  const type = upperCase(exportType);
  if (type === 'Q8_0')
    throw new GatewayError('invalid_config', 'Expected `type` to be f32, f16 or bf16 for safetensors', {
      param: 'type',
    });
  await exportSafetensors(model, out, { type, files: hubFiles(tokenizer, manifest), ...progress });
}

function progressOf(model: DenseModel, ui: ProgressUi, signal: AbortSignal): ExportProgress {
  const total = model.tensors.reduce(
    (sum, { shape }) => sum + shape.reduce((product, dim) => product * dim, 1),
    0,
  );
  let done = 0;
  const onValues = (count: number): void => {
    done += count;
    ui.progress(`merging ${model.name}`, Math.min(done, total), total);
  };
  return { onValues, signal };
}

function upperCase<T extends WeightType>(type: T): Uppercase<T> {
  return type.toUpperCase() as Uppercase<T>;
}
