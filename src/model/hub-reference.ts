// What a `--model` value says: a Hub id with an optional revision and file. Text only, no disk and no network.

/** `owner/name`, `owner/name@revision`, `owner/name:file.gguf`, `owner/name@revision:file.gguf`. */
export interface HubReference {
  readonly repo: string;
  readonly revision: string;
  /** null takes the repository's safetensors, or its only GGUF. */
  readonly file: string | null;
}

const PATTERN =
  /^(?<repo>\w[\w.-]*\/\w[\w.-]*)(?:@(?<revision>[\w.][\w./-]*))?(?::(?<file>\w[\w./ -]*\.gguf))?$/i;

/** null where the text is no Hub id. Nothing in it can climb out of a folder. */
export function parseHubReference(text: string): HubReference | null {
  const groups = PATTERN.exec(text)?.groups;
  if (groups === undefined || text.includes('..')) return null;
  return { repo: groups['repo']!, revision: groups['revision'] ?? 'main', file: groups['file'] ?? null };
}

export function formatHubReference({ repo, revision, file }: HubReference): string {
  return repo + (revision === 'main' ? '' : `@${revision}`) + (file === null ? '' : `:${file}`);
}
