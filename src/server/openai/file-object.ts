// A file as /v1/files shows it.

import type { Page, TrainingFile } from '../../train/jobs/types.js';

export function fileObject(file: TrainingFile) {
  return {
    id: file.id,
    object: 'file',
    bytes: file.sizeBytes,
    created_at: file.createdAt,
    filename: file.filename,
    purpose: file.purpose,
    // What the lines say is checked by the job that reads them.
    status: 'processed',
    status_details: null,
    expires_at: null,
  };
}

/** A list with its cursors, as OpenAI's clients page through it. */
export function listObject<T>(
  { items, hasMore }: Page<T>,
  toObject: (item: T) => { readonly id: string },
): object {
  const data = items.map(toObject);
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: hasMore,
  };
}
