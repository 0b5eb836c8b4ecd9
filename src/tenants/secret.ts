// A key's secret: made at random, known to its owner alone, kept as its hash.

import { createHash, randomBytes } from 'node:crypto';

const RANDOM_BYTES = 32;
/** `sk-` and 6 of 43 random characters: enough to recognise a key by, nothing to guess it from. */
const SHOWN_LENGTH = 9;

export interface Secret {
  readonly text: string;
  readonly hash: string;
  readonly prefix: string;
}

/** @param random gives that many bytes that nobody can foresee */
export function newSecret(random: (numBytes: number) => Uint8Array = randomBytes): Secret {
  const text = `sk-${Buffer.from(random(RANDOM_BYTES)).toString('base64url')}`;
  return { text, hash: hashOf(text), prefix: text.slice(0, SHOWN_LENGTH) };
}

/**
 * A plain hash is enough: 256 random bits cannot be tried out, as a password can. Nor need a comparison take constant time: keys are found
 * by their hash, and who sends a key to watch how long that takes cannot choose what its hash begins with.
 */
export function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}
