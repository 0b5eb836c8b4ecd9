// How people write which adapter they mean: `name`, `owner/name` for another tenant's, and `@3` behind either for one of its versions.

export interface AdapterReference {
  /** Null where none is written. */
  readonly owner: string | null;
  readonly name: string;
  /** Null is the current one. */
  readonly version: number | null;
}

const REFERENCE = /^(?:([^/@]+)\/)?([^/@]+)(?:@([1-9]\d{0,8}))?$/;

/** Null where the text can mean no adapter. */
export function parseReference(text: string): AdapterReference | null {
  const match = REFERENCE.exec(text);
  if (match === null) return null;
  const [, owner, name, version] = match;
  return { owner: owner ?? null, name: name!, version: version === undefined ? null : Number(version) };
}
