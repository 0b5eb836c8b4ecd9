// What the HTTP layer is given: the engine, tokenizer and adapters through their protocols, and everything with an effect
// (clock, logger, archive and folder readers) as a value. Nothing here is a default: main decides.

import type { Registry } from 'prom-client';
import type { MergeStatus } from '../adapters/merging/status.js';
import type { AdapterService } from '../adapters/protocol.js';
import type { Engine } from '../engine/types.js';
import type { TenantService } from '../tenants/service.js';
import type { TextTokenizer } from '../tokenizer/types.js';
import type { TrainingService } from '../train/jobs/types.js';
import type { TrainingOptions } from '../train/options.js';

export interface BaseDescription {
  /** The id that selects the base as `model`. */
  readonly name: string;
  readonly baseHash: string;
  /** Unix seconds. */
  readonly createdAt: number;
  /** Where the weights came from; `root` in /v1/models. */
  readonly source: string;
  /** How the weights are held: q4, q8, f32. */
  readonly weights: string;
  /** Longest sequence that the base was made for, in tokens. */
  readonly contextLength: number;
  /** That was chosen in place of the checkpoint's own; null is none. Training is done under it too. */
  readonly ropeScaling: TrainingOptions['ropeScaling'];
}

export interface Logger {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

export interface ServerLimits {
  /** Largest body of POST /v1/adapters and /v1/files. */
  readonly maxUploadBytes: number;
  /** Longest that one generation may take; absent is without end. */
  readonly requestTimeoutMs?: number;
}

/** The files of an adapter folder: base name -> bytes. */
export type AdapterFiles = ReadonlyMap<string, Uint8Array>;

export interface ServerDependencies {
  readonly engine: Engine;
  readonly tokenizer: TextTokenizer;
  readonly adapters: AdapterService;
  readonly training: TrainingService;
  /** Absent or null where nothing is merged. */
  readonly merging?: MergeStatus | null;
  readonly tenants: TenantService;
  readonly base: BaseDescription;
  /** Unpacks a .zip, .tar.gz or .tgz. Throws GatewayError invalid_file. */
  readonly readArchive: (bytes: Uint8Array, filename: string) => Promise<AdapterFiles>;
  /** Reads the files of a folder whose path was checked. */
  readonly readAdapterFolder: (path: string) => Promise<AdapterFiles>;
  readonly metricsRegistry: Registry;
  /** Milliseconds since the Unix epoch; fractions welcome. */
  readonly clock: () => number;
  /** At least 0, below 1: draws among the targets of an alias. */
  readonly random: () => number;
  readonly limits: ServerLimits;
  /** The folder that /v1/load_lora_adapter may read from; null turns the route off. */
  readonly runtimeLora: { readonly folder: string } | null;
  /** Whether GET /ready says yes. */
  readonly isReady: () => boolean;
  readonly logger: Logger;
}
