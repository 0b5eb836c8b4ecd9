// The documents against the tree: links resolve, the README names every folder of src, every error code is in the table.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { ERROR_CODES } from '../../src/errors.js';

const root = join(import.meta.dirname, '..', '..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const FENCE = /^```[^\n]*\n.*?^```$/gms;

function documents(): string[] {
  const inFolder = (folder: string): string[] =>
    readdirSync(join(root, folder))
      .filter((file) => file.endsWith('.md'))
      .map((file) => join(folder, file));
  return [...inFolder('.'), ...inFolder('docs')].toSorted();
}

/** As GitHub makes them: lower case, punctuation gone, spaces as hyphens. */
function anchors(text: string): Set<string> {
  const headings = [...text.replace(FENCE, '').matchAll(/^#+ (.+)$/gm)];
  return new Set(
    headings.map(([, heading]) =>
      heading!
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

/** What is wrong with a link of the file, or null. */
function linkFault(file: string, link: string): string | null {
  if (/^https?:/.test(link)) return null;
  const [path, anchor] = link.split('#', 2);
  const target = path === '' ? join(root, file) : join(root, dirname(file), path!);
  if (!existsSync(target)) return `${file}: ${link} does not exist`;
  if (anchor === undefined || anchors(readFileSync(target, 'utf8')).has(anchor)) return null;
  return `${file}: ${relative(root, target)} has no heading #${anchor}`;
}

test('links between the documents resolve', () => {
  const links = documents().flatMap((file) =>
    [
      ...read(file)
        .replace(FENCE, '')
        .matchAll(/\]\(([^)\s]+)\)/g),
    ].map((match) => ({
      file,
      link: match[1]!,
    })),
  );
  assert(links.length >= 10, `only ${links.length} links found`);
  assert.deepEqual(
    links.map(({ file, link }) => linkFault(file, link)).filter((fault) => fault !== null),
    [],
  );
});

test('a link to nothing is a fault', () => {
  assert.equal(linkFault('README.md', 'docs/none.md'), 'README.md: docs/none.md does not exist');
  assert.equal(
    linkFault('docs/log.md', 'errors.md#none'),
    'docs/log.md: docs/errors.md has no heading #none',
  );
  assert.equal(linkFault('README.md', 'docs/errors.md#errors'), null);
});

test("the README's file tree names every folder and file of src", () => {
  const named = [...read('README.md').matchAll(/^src\/(\S+)/gm)].map((match) => match[1]!);
  const there = readdirSync(join(root, 'src'), { withFileTypes: true }).map((entry) =>
    entry.isDirectory() ? `${entry.name}/` : entry.name,
  );
  assert.deepEqual(named.toSorted(), there.toSorted());
});

test('every error code is in the table with its status and type', () => {
  const rows = [...read('docs/errors.md').matchAll(/^\| `(\w+)` +\| (\d+) +\| `(\w+)` +\| \S/gm)];
  assert.deepEqual(
    Object.fromEntries(rows.map(([, code, status, type]) => [code, [Number(status), type]])),
    ERROR_CODES,
  );
  assert.equal(rows.length, Object.keys(ERROR_CODES).length, 'a code has two rows');
});

test("the layering table is the test's", () => {
  const rows = [...read('docs/architecture.md').matchAll(/^\| (`[^|]+`) +\| ([^|]+?) +\| /gm)];
  const source = read('tests/layering.test.ts');
  const allowed = [...source.matchAll(/^ {2}(\w+): \[(.*)\],$/gm)].map(([, folder, list]) => [
    folder!,
    [...list!.matchAll(/[\w]+(?=')/g)].map(([name]) => name).toSorted(),
  ]);
  assert.equal(allowed.length, 11);
  const documented = rows.flatMap(([, folders, list]) =>
    [...folders!.matchAll(/`(\w+)`/g)].map(([, folder]) => [
      folder!,
      [...list!.matchAll(/`(\w+)`/g)].map(([, name]) => name!).toSorted(),
    ]),
  );
  const pick = (entries: typeof documented) =>
    Object.fromEntries(entries.filter(([folder]) => allowed.some(([name]) => name === folder))) as Record<
      string,
      readonly string[]
    >;
  assert.deepEqual(pick(documented), pick(allowed));
});
