// An adapter as /v1/adapters shows it.

import type { AdapterInfo } from '../../adapters/types.js';

export function adapterObject(info: AdapterInfo): object {
  return {
    object: 'adapter',
    id: info.name,
    name: info.name,
    version: info.version,
    hash: info.hash,
    peft_type: info.peftType,
    served_as: info.servedAs,
    rank: info.rank,
    target_modules: info.targetModules,
    num_virtual_tokens: info.numVirtualTokens,
    size_bytes: info.sizeBytes,
    base: info.base,
    created_at: info.createdAt,
  };
}
