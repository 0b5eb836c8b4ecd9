// A small engine over any artifact.
import { openEngine, type OpenEngine, type OpenEngineOptions } from '../../src/engine/open-engine.js';
import { chooseKernels } from '../../src/runtime/native-kernels.js';
import type { Artifact } from '../../src/model/artifact-reader.js';

export function openTinyEngine(
  artifact: Artifact,
  options: Partial<OpenEngineOptions> = {},
): Promise<OpenEngine> {
  return openEngine({
    artifactFolder: artifact.folder,
    manifest: artifact.manifest,
    embedding: artifact.readEmbeddingTable(),
    threads: 1,
    kernels: chooseKernels('auto'),
    slots: 4,
    contextLength: 128,
    prefillChunk: 16,
    maxWaiting: 64,
    prefixCacheBytes: 0,
    plainLora: false,
    batchPrompts: true,
    promptLookup: true,
    ...options,
  });
}
