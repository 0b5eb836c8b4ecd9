// Options of `serve` for training jobs beside the requests, and for the log of both.
import { availableParallelism } from 'node:os';
import type { Option } from './option.js';

export const SERVE_TRAINING = {
  trainThreads: {
    kind: 'integer',
    min: 1,
    max: 1_024,
    fallback: availableParallelism,
    help: 'threads of a training job; it computes at the lowest priority',
    fallbackWords: 'the number of cores',
    commands: ['serve'],
  },
  trainYield: {
    kind: 'switch',
    fallback: true,
    help: 'a training job waits while requests run',
    commands: ['serve'],
  },
  trainMinShare: {
    kind: 'integer',
    min: 0,
    max: 100,
    fallback: 10,
    help: 'share of the time, in percent, in which a training job goes on all the same while requests run; 0 stops it then',
    commands: ['serve'],
  },
  trainKeepDays: {
    kind: 'integer',
    min: 0,
    max: 36_500,
    fallback: 30,
    help: 'days that the folder of an ended training job is kept: checkpoints that are not served, and logs; the result of a full fine-tuning always stays',
    commands: ['serve'],
  },
  logLevel: {
    kind: 'choice',
    choices: ['error', 'warn', 'info', 'debug'],
    fallback: 'info',
    help: 'least severe messages that are logged',
    commands: ['serve'],
  },
} as const satisfies Record<string, Option>;
