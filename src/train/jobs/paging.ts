// One page of rows in the order in which they came, or the reverse, after the row that the caller saw last.

import { GatewayError } from '../../errors.js';
import type { Page, PageRequest } from './types.js';

/** Asks for one row more than the page holds, to know whether others follow. */
export async function pageOf<R, T>(
  { limit }: PageRequest,
  rows: (limit: number) => Promise<readonly R[]>,
  toItem: (row: R) => T,
): Promise<Page<T>> {
  const found = await rows(limit + 1);
  return { items: found.slice(0, limit).map(toItem), hasMore: found.length > limit };
}

/** The place of the row that a page comes after; null is the beginning. Throws not_found. */
export async function seqAfter(
  after: string | null,
  find: (id: string) => Promise<{ readonly seq: number } | undefined>,
): Promise<number | null> {
  if (after === null) return null;
  const row = await find(after);
  if (row !== undefined) return row.seq;
  throw new GatewayError('not_found', `Expected \`after\` to be an id of this list, got \`${after}\``, {
    param: 'after',
  });
}
