// Takes jobs from the queue one at a time, has a worker run each, and settles what became of them: published, failed, paused, cancelled, or
// given back to the queue. Serving does not depend on it: whatever a job or a worker does ends in the job's row.

import { mkdir } from 'node:fs/promises';
import { createReadStream, existsSync } from 'node:fs';
import { join } from 'node:path';
import { GatewayError } from '../../errors.js';
import type { Outcome, TrainingEvent } from '../events.js';
import { type RunRequest, TRAINER_LOG } from '../run-types.js';
import { attend, type Attendance, type AttendanceOptions, type RunEnd } from './attendance.js';
import type { FileShelf } from './files.js';
import { type Ending, type StoredJob, toJob } from './job-state.js';
import type { Journal } from './journal.js';
import { type Adapters, publish } from './publish.js';
import type { JobQueue } from './queue.js';
import type { Records } from './records.js';
import type { JobFigures } from './types.js';

export interface Log {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

export interface SupervisorOptions extends AttendanceOptions {
  /** Holds a folder for each job. */
  readonly folder: string;
  /** The converted base that is served. */
  readonly artifactFolder: string;
  /** Threads of a worker. */
  readonly threads: number;
  readonly adapters: Adapters;
  readonly log: Log;
}

export interface Supervisor {
  /** Something may be waiting in the queue. */
  wake(): void;
  /** Tells the worker that runs the job, where it runs here, what is wanted now. */
  tell(jobId: string, control: 'run' | 'pause' | 'cancel'): void;
  figures(): JobFigures | null;
  /** Has the worker write a checkpoint and end, and gives its job back. */
  close(): Promise<void>;
}

interface Parts {
  readonly queue: JobQueue;
  readonly journal: Journal;
  readonly records: Records;
  readonly files: FileShelf;
}

/** How often other servers' jobs are looked at: a dead one's are taken over. */
const POLL_MS = 15_000;

export function createSupervisor(parts: Parts, options: SupervisorOptions): Supervisor {
  return new JobSupervisor(parts, options);
}

class JobSupervisor implements Supervisor {
  readonly #parts: Parts;
  readonly #options: SupervisorOptions;
  readonly #poll: NodeJS.Timeout;
  #driving: Promise<void> | null = null;
  #isWakened = false;
  #isClosing = false;
  #current: { readonly jobId: string; readonly attendance: Attendance; isCancelled: boolean } | null = null;
  #figures: JobFigures | null = null;

  constructor(parts: Parts, options: SupervisorOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#poll = setInterval(() => this.wake(), POLL_MS).unref();
  }

  wake(): void {
    this.#isWakened = true;
    this.#driving ??= this.#drive().finally(() => {
      this.#driving = null;
      // Wakened after the last look, before this.
      if (this.#isWakened && !this.#isClosing) this.wake();
    });
  }

  tell(jobId: string, control: 'run' | 'pause' | 'cancel'): void {
    if (this.#current?.jobId !== jobId) return;
    this.#current.attendance.control(control);
    this.#current.isCancelled ||= control === 'cancel';
  }

  figures(): JobFigures | null {
    return this.#figures;
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    clearInterval(this.#poll);
    this.#current?.attendance.control('stop');
    await this.#driving;
  }

  async #drive(): Promise<void> {
    while (this.#isWakened && !this.#isClosing) {
      this.#isWakened = false;
      try {
        for (let job = await this.#claim(); job !== null; job = await this.#claim()) await this.#run(job);
      } catch (error) {
        // Its row still says that it runs here; the next look at the queue finds that it does not.
        this.#options.log.error('a training job could not be run', { error });
      }
    }
  }

  #claim(): Promise<StoredJob | null> {
    return this.#isClosing ? Promise.resolve(null) : this.#parts.queue.claim();
  }

  async #run(job: StoredJob): Promise<void> {
    const { queue, journal } = this.#parts;
    const folder = join(this.#options.folder, job.id);
    await mkdir(folder, { recursive: true });
    this.#say(job.id, 'info', job.step === 0 ? 'Job started' : `Job goes on after step ${job.step}`);
    const attendance = attend(this.#request(job, folder), this.#options, {
      event: (event) => this.#takeEvent(job.id, event),
      heartbeat: () => void this.#renew(job.id, attendance),
    });
    this.#current = { jobId: job.id, attendance, isCancelled: false };
    this.#figures = { loss: null, evalLoss: null, learningRate: null, gradNorm: null, tokensPerSecond: null };
    try {
      if (attendance.pid !== null) await queue.setWorker(job.id, attendance.pid);
      await this.#passOnWish(job.id, attendance);
      const end = ifAsked(await attendance.ended, attendance);
      this.#figures = null;
      await journal.flush();
      await this.#settle(job, end, folder);
    } catch (error) {
      attendance.abandon();
      await attendance.ended;
      throw error;
    } finally {
      this.#current = null;
      this.#figures = null;
    }
  }

  /** What was wanted before there was a worker to be told. */
  async #passOnWish(jobId: string, attendance: Attendance): Promise<void> {
    const wanted = await this.#parts.queue.wanted(jobId);
    if (wanted !== null) attendance.control(wanted);
    if (this.#isClosing) attendance.control('stop');
  }

  #request(job: StoredJob, folder: string): RunRequest {
    const { files } = this.#parts;
    const { artifactFolder, threads } = this.#options;
    const validation = job.validation_hash;
    return {
      artifactFolder,
      options: toJob(job).options,
      trainingFiles: [{ path: files.pathOf(job.training_hash), name: job.training_filename }],
      validationFile:
        validation === null
          ? null
          : { path: files.pathOf(validation), name: job.validation_filename ?? validation },
      folder,
      threads,
    };
  }

  async #renew(jobId: string, attendance: Attendance): Promise<void> {
    try {
      if (await this.#parts.queue.renew(jobId)) return;
      this.#options.log.warn('a training job was taken over by another server', { jobId });
      attendance.abandon();
    } catch (error) {
      this.#options.log.error('a sign of life of a training job was not written', { jobId, error });
    }
  }

  /** A cancelled job has told its last word. */
  #takeEvent(jobId: string, event: TrainingEvent): void {
    if (this.#current?.isCancelled === true) return;
    this.#parts.journal.record(jobId, event);
    this.#figures = figuresAfter(this.#figures, event);
  }

  async #settle(job: StoredJob, end: RunEnd, folder: string): Promise<void> {
    const { queue, journal, files } = this.#parts;
    const ending = await this.#ending(job, end, folder);
    if (ending.kind !== 'released' && ending.kind !== 'crashed') await this.#keepLog(job, folder);
    const [level, text] = lastWord(ending);
    this.#say(job.id, level, text);
    await journal.flush();
    const settled = await queue.settle(job.id, ending);
    journal.announce(job.id);
    this.#options.log.info('a training job left its worker', {
      jobId: job.id,
      status: settled?.status ?? 'taken over',
    });
    if (settled !== null) await files.release([settled.training_hash, settled.validation_hash]);
  }

  async #ending(job: StoredJob, end: RunEnd, folder: string): Promise<Ending> {
    switch (end.kind) {
      case 'abandoned':
        return { kind: 'released' };
      case 'crashed':
        return { kind: 'crashed', message: end.message };
      case 'failed':
        return { kind: 'failed', error: end.error };
      case 'outcome':
        return this.#outcome(job, end.outcome, folder);
    }
  }

  async #outcome(job: StoredJob, outcome: Outcome, folder: string): Promise<Ending> {
    if (outcome.kind === 'failed')
      return { kind: 'failed', error: { code: outcome.code, message: outcome.message, param: null } };
    if (outcome.kind === 'stopped') return { kind: 'released' };
    if (!(await this.#parts.queue.beginPublishing(job.id))) return { kind: 'released' };
    try {
      const published = await publish(job, folder, this.#parts.records, this.#options.adapters);
      return { kind: 'succeeded', ...published };
    } catch (error) {
      if (!(error instanceof GatewayError)) this.#options.log.error('publishing failed', { error });
      const code = error instanceof GatewayError ? error.code : 'internal_error';
      const reason = error instanceof Error ? error.message : String(error);
      const message = `The trained adapter could not be published: ${reason}. Its files are in ${folder}`;
      return { kind: 'failed', error: { code, message, param: null } };
    }
  }

  /** The run's log as a file for people to fetch. */
  async #keepLog(job: StoredJob, folder: string): Promise<void> {
    const path = join(folder, TRAINER_LOG);
    if (!existsSync(path)) return;
    const { files, queue } = this.#parts;
    const earlier = (await queue.get(job.id))?.result_file ?? null;
    const own = files.of(job.tenant);
    if (earlier !== null) await own.remove(earlier);
    const file = await own.add(TRAINER_LOG, 'fine-tune-results', createReadStream(path));
    await queue.setResultFile(job.id, file.id);
  }

  #say(jobId: string, level: 'info' | 'warn' | 'error', message: string): void {
    this.#parts.journal.record(jobId, { type: 'message', level, message });
  }
}

/** A run that stops although nobody wanted it would be run again without end. */
function ifAsked(end: RunEnd, attendance: Attendance): RunEnd {
  if (end.kind !== 'outcome' || end.outcome.kind !== 'stopped' || attendance.wasToldToEnd()) return end;
  return { kind: 'crashed', message: `The run stopped at step ${end.outcome.step} without being told to` };
}

function lastWord(ending: Ending): ['info' | 'warn' | 'error', string] {
  switch (ending.kind) {
    case 'succeeded':
      return ['info', `Job succeeded: ${ending.fineTunedModel ?? ending.resultFolder}`];
    case 'failed':
      return ['error', ending.error.message];
    case 'crashed':
      return ['warn', ending.message];
    case 'released':
      return ['info', 'The worker let go of the job'];
  }
}

function figuresAfter(figures: JobFigures | null, event: TrainingEvent): JobFigures | null {
  if (figures === null) return null;
  if (event.type === 'eval') return { ...figures, evalLoss: event.loss };
  if (event.type !== 'step') return figures;
  const { loss, learningRate, gradNorm, tokensPerSecond } = event;
  return { ...figures, loss, learningRate, gradNorm, tokensPerSecond };
}
