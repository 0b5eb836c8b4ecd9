// The protocol of training jobs: what the server asks of them, and what it is told. Files of examples, jobs, their events and checkpoints.

import type { TrainingEvent } from '../events.js';
import type { MethodOptions, TrainingOptions } from '../options.js';

/** `fine-tune`: examples; `fine-tune-results`: a job's log. */
export type FilePurpose = 'fine-tune' | 'fine-tune-results';

export interface TrainingFile {
  /** `file-...` */
  readonly id: string;
  readonly filename: string;
  readonly purpose: FilePurpose;
  readonly sizeBytes: number;
  /** Unix seconds. */
  readonly createdAt: number;
}

export interface PageRequest {
  /** The id that the page comes after; null is from the beginning. */
  readonly after: string | null;
  readonly limit: number;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly hasMore: boolean;
}

export interface FileListRequest extends PageRequest {
  readonly purpose: string | null;
  readonly order: 'asc' | 'desc';
}

export interface TrainingFiles {
  /** Durable on return. */
  add(filename: string, purpose: FilePurpose, content: AsyncIterable<Uint8Array>): Promise<TrainingFile>;
  get(id: string): Promise<TrainingFile | null>;
  /** Throws not_found where `after` is no file. */
  list(request: FileListRequest): Promise<Page<TrainingFile>>;
  /** The bytes, or null where no such file is. */
  read(
    id: string,
  ): Promise<{ readonly file: TrainingFile; readonly content: ReadableStream<Uint8Array> } | null>;
  /** False where no such file is. Jobs that were made with it keep its bytes until they end. */
  remove(id: string): Promise<boolean>;
}

/** A number, or what fits the data and the method. */
export type Auto = number | 'auto';

type Chosen<T> = { readonly [K in keyof T]?: T[K] | undefined };
/** A method and those of its settings that were chosen. */
export type MethodChoice = {
  [M in MethodOptions as M['name']]: { readonly name: M['name'] } & Chosen<Omit<M, 'name'>>;
}[MethodOptions['name']];

type Derived = 'method' | 'batchSize' | 'accumulation' | 'epochs' | 'learningRate' | 'dpo';
/** What was chosen of TrainingOptions; the rest gets the default, and what depends on data and method is worked out. */
export interface OptionChoices extends Chosen<Omit<TrainingOptions, Derived>> {
  readonly method: MethodChoice;
  /** Examples (pairs) of a step. */
  readonly batchSize: Auto;
  readonly epochs: Auto;
  /** Of the method's own learning rate. */
  readonly learningRateMultiplier: Auto;
  /** Instead of that product. */
  readonly learningRate?: number | undefined;
  /** Rows of a micro-batch are batchSize / accumulation. */
  readonly accumulation?: number | undefined;
  readonly dpo: { readonly beta: Auto } & Chosen<Omit<TrainingOptions['dpo'], 'beta'>>;
}

export interface JobRequest {
  readonly trainingFile: string;
  readonly validationFile: string | null;
  readonly suffix: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  /** Publish under this name, as its next version; null makes a name of base, suffix and id. */
  readonly adapterName: string | null;
  readonly choices: OptionChoices;
}

/** `validating`: a worker reads the data. `paused` and the last three stay until someone says otherwise. */
export type JobStatus = 'queued' | 'validating' | 'running' | 'paused' | 'succeeded' | 'failed' | 'cancelled';
export const JOB_STATUSES: readonly JobStatus[] = [
  'queued',
  'validating',
  'running',
  'paused',
  'succeeded',
  'failed',
  'cancelled',
];

export interface JobError {
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
}

export interface Job {
  /** `ftjob-...` */
  readonly id: string;
  readonly status: JobStatus;
  /** Name of the base. */
  readonly base: string;
  readonly trainingFile: string;
  readonly validationFile: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly learningRateMultiplier: number;
  readonly options: TrainingOptions;
  /** Unix seconds, as all times here. */
  readonly createdAt: number;
  readonly estimatedFinish: number | null;
  readonly finishedAt: number | null;
  readonly step: number;
  /** 0 until the first step. */
  readonly totalSteps: number;
  /** Supervised tokens. */
  readonly trainedTokens: number;
  readonly error: JobError | null;
  /** The adapter, once it is served; null for a full fine-tuning. */
  readonly fineTunedModel: string | null;
  /** A full fine-tuning's new base: a folder on the server. */
  readonly resultFolder: string | null;
  readonly resultFile: string | null;
}

export interface JobEvent {
  /** `ftevent-...` */
  readonly id: string;
  readonly createdAt: number;
  /** Numbers that are not finite come back as null. */
  readonly event: TrainingEvent;
}

export interface JobCheckpoint {
  /** `ftckpt-...` */
  readonly id: string;
  readonly jobId: string;
  readonly createdAt: number;
  readonly step: number;
  /** Null where it was not finite. */
  readonly trainLoss: number | null;
  readonly evalLoss: number | null;
  /** The model's name while it is served; a job that succeeds publishes the checkpoints that it kept. */
  readonly modelName: string;
  readonly isServed: boolean;
}

/** The last figures of the job that runs on this server. */
export interface JobFigures {
  readonly loss: number | null;
  readonly evalLoss: number | null;
  readonly learningRate: number | null;
  readonly gradNorm: number | null;
  readonly tokensPerSecond: number | null;
}

export interface JobListRequest extends PageRequest {
  /** Only jobs with these; null is all, empty is those without any. */
  readonly metadata: Readonly<Record<string, string>> | null;
}

/**
 * One tenant's files and jobs, of the base that is served. Another's are answered like ones that do not exist: methods that name a job or
 * an `after` throw not_found.
 */
export interface TenantTraining {
  readonly files: TrainingFiles;
  /** Durable and queued on return. Throws invalid_value and unsupported_parameter; `param` is a path of JobRequest's fields. */
  create(request: JobRequest): Promise<Job>;
  get(id: string): Promise<Job>;
  /** Newest first, as all lists of a job. */
  list(request: JobListRequest): Promise<Page<Job>>;
  /** Takes effect at once for everyone who asks; the worker lets go within a step. Again is no error. Throws invalid_value for an ended job. */
  cancel(id: string): Promise<Job>;
  pause(id: string): Promise<Job>;
  /** Goes on from the last checkpoint. */
  resume(id: string): Promise<Job>;
  events(id: string, page: PageRequest): Promise<Page<JobEvent>>;
  /** Oldest first: those after `after`, then each as it comes, until the job has ended, the signal, or close(). */
  follow(id: string, after: string | null, signal: AbortSignal): AsyncGenerator<JobEvent, void, undefined>;
  checkpoints(id: string, page: PageRequest): Promise<Page<JobCheckpoint>>;
}

export interface TrainingHoldings {
  /** Jobs that have not ended. */
  readonly numJobs: number;
  /** Of files of examples. */
  readonly sizeBytes: number;
}

export interface TrainingService {
  of(tenant: string): TenantTraining;
  /** What a tenant has, for quotas. */
  holdings(tenant: string): Promise<TrainingHoldings>;
  /** Of all tenants. */
  countByStatus(): Promise<Readonly<Record<JobStatus, number>>>;
  figures(): JobFigures | null;
  /** Ends followers, has the worker write a checkpoint and end, and gives its job back to the queue. */
  close(): Promise<void>;
}
