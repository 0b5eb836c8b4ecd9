// The reference bases (tests/fixtures/bases) imported into a temporary folder, with an engine over them.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { greedySampling } from '../../src/server/greedy-sampling.js';
import type { OpenEngine, OpenEngineOptions } from '../../src/engine/open-engine.js';
import { adapterBase } from '../../src/adapters/base.js';
import { readPeft } from '../../src/adapters/peft.js';
import type { ServingAdapter } from '../../src/adapters/types.js';
import type { GenerationEvent, GenerationRequest, SamplingParams } from '../../src/engine/types.js';
import { openArtifact, type Artifact } from '../../src/model/artifact-reader.js';
import { importModel } from '../../src/model/import.js';
import { openTinyEngine } from './tiny-engine.js';

export const FIXTURES = join(import.meta.dirname, '..', 'fixtures');

export interface TinyModel {
  readonly artifact: Artifact;
  open(options?: Partial<OpenEngineOptions>): Promise<OpenEngine>;
  adapter(name: string, engine: OpenEngine): Promise<ServingAdapter>;
  dispose(): void;
}

export async function tinyModel(base: string, weights: 'f32' | 'q4' | 'q8' = 'f32'): Promise<TinyModel> {
  const folder = mkdtempSync(join(tmpdir(), 'tiny-'));
  const artifactFolder = join(folder, 'artifact');
  await importModel({
    sourcePath: join(FIXTURES, 'bases', base),
    outputFolder: artifactFolder,
    weights,
    name: base,
    source: base,
  });
  const artifact = openArtifact(artifactFolder);
  return {
    artifact,
    open: (options) => openTinyEngine(artifact, options),
    adapter: async (name, { engine }) => {
      const path = join(FIXTURES, 'adapters', base, name);
      const files = new Map(
        readdirSync(path)
          .filter((file) => file.startsWith('adapter_'))
          .map((file) => [file, new Uint8Array(readFileSync(join(path, file)))] as const),
      );
      const { content } = await readPeft(files, adapterBase(artifact));
      return content.kind === 'prompt' ? engine.computePrefix(content) : content;
    },
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export const GREEDY: SamplingParams = { ...greedySampling(8), ignoreEos: true, logprobs: 0 };

export function request(
  promptTokens: readonly number[],
  options: Partial<Omit<GenerationRequest, 'sampling'>> & {
    readonly sampling?: Partial<SamplingParams>;
  } = {},
): GenerationRequest {
  return {
    promptTokens,
    adapter: null,
    tenant: 'default',
    fairnessId: null,
    priority: 0,
    promptLogprobs: false,
    signal: new AbortController().signal,
    ...options,
    sampling: { ...GREEDY, ...options.sampling },
  };
}

export interface Result {
  readonly tokens: readonly number[];
  readonly logprobs: readonly number[];
  readonly promptLogprobs: readonly (number | null)[] | null;
  readonly numCachedTokens: number;
  readonly finish: string;
}

export async function collect(events: AsyncIterable<GenerationEvent>): Promise<Result> {
  const tokens: number[] = [];
  const logprobs: number[] = [];
  let promptLogprobs: (number | null)[] | null = null;
  let numCachedTokens = 0;
  let finish = '';
  for await (const event of events) {
    if (event.type === 'prompt') {
      promptLogprobs = event.promptLogprobs?.map((entry) => entry?.logprob ?? null) ?? null;
      numCachedTokens = event.numCachedTokens;
    } else if (event.type === 'token') {
      tokens.push(event.token);
      if (event.logprob) logprobs.push(event.logprob.logprob);
    } else finish = event.reason;
  }
  return { tokens, logprobs, promptLogprobs, numCachedTokens, finish };
}
