// An adapter as /v1/adapters shows it: in lists, and alone with its versions and, for its owner, those it is shared with.

import type { MergeStatus } from '../../adapters/merging/status.js';
import type { AdapterVersion } from '../../adapters/registry.js';
import type { AdapterInfo } from '../../adapters/types.js';

export function adapterObject(info: AdapterInfo): object {
  return {
    object: 'adapter',
    id: info.name,
    name: info.name,
    owner: info.owner,
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

export interface AdapterDetails {
  readonly info: AdapterInfo;
  readonly versions: readonly AdapterVersion[];
  /** Null for those who are not its owner. */
  readonly grantees: readonly string[] | null;
  /** Null where nothing is merged. */
  readonly merging: MergeStatus | null;
}

export function adapterDetailsObject({ info, versions, grantees, merging }: AdapterDetails): object {
  return {
    ...adapterObject(info),
    versions: versions.map(({ info: version, isCurrent }) => ({
      id: `${version.name}@${version.version}`,
      version: version.version,
      hash: version.hash,
      size_bytes: version.sizeBytes,
      created_at: version.createdAt,
      current: isCurrent,
    })),
    ...(grantees === null ? {} : { shared_with: grantees }),
    ...(merging === null ? {} : { merged: mergedObject(info.hash, merging) }),
  };
}

/** The form that serves the current version, and what was found out about each that was tried. */
function mergedObject(hash: string, merging: MergeStatus): object {
  return {
    form: merging.servedForm(hash),
    tried: merging.reports(hash).map(({ form, verdict, drift, gain, sizeBytes, buildMs }) => ({
      form,
      verdict,
      mean_kl: drift.meanKl,
      top1_agreement: drift.top1,
      unmerged_self_kl: drift.selfKl,
      decode_gain: Object.fromEntries((gain?.decode ?? []).map(({ rows, ratio }) => [rows, ratio])),
      prefill_gain: gain?.prefill ?? null,
      size_bytes: sizeBytes,
      build_ms: Math.round(buildMs),
    })),
  };
}
