// `adapters list|add|remove`: the adapters of a running server.
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { GatewayError } from '../errors.js';
import { absentAsNull } from '../model/absent-file.js';
import type { AdapterRow, MergedRow, ServerClient } from './server-client.js';
import type { Terminal } from './terminal.js';
import { textTable } from './text-table.js';

const HEAD = ['NAME', 'VERSION', 'TYPE', 'SERVED AS', 'RANK', 'SIZE', 'CREATED'];
const MERGED_HEAD = ['FORM', 'VERDICT', 'MEAN KL', 'TOP-1', 'STEPS', 'PROMPTS', 'SIZE'];

export async function listAdapters(client: ServerClient, { stdout }: Terminal): Promise<number> {
  const rows = await client.listAdapters();
  if (rows.length === 0) stdout.write('no adapters; add one with `graft adapters add NAME PATH`\n');
  else stdout.write(textTable([HEAD, ...rows.map(cells)]));
  return 0;
}

/** One adapter, and what merging found out about each form of it. */
export async function showAdapter(client: ServerClient, name: string, { stdout }: Terminal): Promise<number> {
  const row = await client.showAdapter(name);
  stdout.write(textTable([HEAD, cells(row)]));
  const { merged } = row;
  if (merged === undefined) stdout.write('merging: off\n');
  else if (merged.tried.length === 0) stdout.write('merged: not tried yet\n');
  else {
    stdout.write(`merged: ${merged.form === null ? 'not served' : `served as ${merged.form}`}\n`);
    stdout.write(textTable([MERGED_HEAD, ...merged.tried.map(mergedCells)]));
  }
  return 0;
}

/** Uploads a PEFT folder, a .zip or a .tar.gz. Throws invalid_value for a path without an adapter. */
export async function addAdapter(
  client: ServerClient,
  name: string,
  path: string,
  { stdout, cwd }: Terminal,
): Promise<number> {
  const added = await client.addAdapter(name, await readAdapter(resolve(cwd, path)));
  stdout.write(
    `${added.name}: version ${added.version}, ${added.peft_type}, ${megabytes(added.size_bytes)}\n`,
  );
  return 0;
}

export async function removeAdapter(
  client: ServerClient,
  name: string,
  { stdout }: Terminal,
): Promise<number> {
  await client.removeAdapter(name);
  stdout.write(`${name}: removed\n`);
  return 0;
}

/** Of a folder, what PEFT wrote: adapter_config.json and adapter_model.*; a trainer's other files stay. */
async function readAdapter(path: string): Promise<ReadonlyMap<string, Blob>> {
  const found = await absentAsNull(stat(path));
  const names = found?.isDirectory()
    ? (await readdir(path)).filter((name) => name.startsWith('adapter_'))
    : found !== null && /\.(zip|tar\.gz|tgz)$/.test(path)
      ? ['']
      : [];
  if (names.length === 0)
    throw new GatewayError(
      'invalid_value',
      `Expected PATH to be a folder with adapter_config.json and adapter_model.safetensors, a .zip or a .tar.gz, got \`${path}\``,
      { param: 'path' },
    );
  const files = new Map<string, Blob>();
  for (const name of names) {
    const file = join(path, name);
    files.set(basename(file), new Blob([await readFile(file)]));
  }
  return files;
}

/** Gains as speed relative to the unmerged path, of steps by their rows. */
function mergedCells(tried: MergedRow): string[] {
  const steps = Object.entries(tried.decode_gain).map(([rows, ratio]) => `${rows}: ${ratio.toFixed(2)}`);
  return [
    tried.form,
    tried.verdict,
    tried.mean_kl.toFixed(4),
    `${(100 * tried.top1_agreement).toFixed(1)} %`,
    steps.length === 0 ? '-' : steps.join(', '),
    tried.prefill_gain === null ? '-' : tried.prefill_gain.toFixed(2),
    megabytes(tried.size_bytes),
  ];
}

function cells(row: AdapterRow): string[] {
  return [
    row.name,
    String(row.version),
    row.peft_type,
    row.served_as,
    row.rank === null ? '-' : String(row.rank),
    megabytes(row.size_bytes),
    new Date(row.created_at * 1000).toISOString().slice(0, 16).replace('T', ' '),
  ];
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
