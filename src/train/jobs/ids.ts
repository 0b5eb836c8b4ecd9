// Ids of files, jobs, events and checkpoints, and the name under which a job's adapter is published.

import { randomBytes } from 'node:crypto';

export type IdKind = 'file' | 'ftjob' | 'ftevent' | 'ftckpt';

const RANDOM_LENGTH = 24;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** `ftjob-` and 24 random letters and digits. */
export function newId(kind: IdKind): string {
  // 252 is the largest multiple of the alphabet's 36 letters that a byte can reach.
  const letters: string[] = [];
  while (letters.length < RANDOM_LENGTH)
    for (const byte of randomBytes(RANDOM_LENGTH))
      if (byte < 252 && letters.length < RANDOM_LENGTH) letters.push(ALPHABET[byte % ALPHABET.length]!);
  return `${kind}-${letters.join('')}`;
}

/** An adapter's name has at most 128 characters; a suffix has up to 64, a checkpoint's ending up to 20. */
const MAX_BASE_LENGTH = 27;
const NAME_ID_LENGTH = 12;

/** `ft:BASE:SUFFIX:ID`, the suffix being empty where there is none. Characters that no name may have become hyphens. */
export function modelName(base: string, suffix: string | null, jobId: string): string {
  const shortBase = base.replaceAll(/[^\w.-]/g, '-').slice(0, MAX_BASE_LENGTH);
  const random = jobId.slice(jobId.indexOf('-') + 1).slice(0, NAME_ID_LENGTH);
  return `ft:${shortBase}:${suffix ?? ''}:${random}`;
}

export function checkpointName(model: string, step: number): string {
  return `${model}:ckpt-step-${step}`;
}
