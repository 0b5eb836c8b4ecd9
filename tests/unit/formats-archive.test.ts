// The archive reader: what zip and tar.gz files hold, and one test for each reason to refuse one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { type ArchiveLimits, readArchive } from '../../src/formats/archive.js';
import { type TarEntry, tarFile, tarGzFile, type ZipEntry, zipFile } from '../helpers/format-files.js';

const LIMITS: ArchiveLimits = { maxFiles: 4, maxTotalBytes: 200_000, maxFileBytes: 150_000 };
const bytes = (text: string) => new TextEncoder().encode(text);
const noise = (count: number) => new Uint8Array(count).map((_, i) => (i * i * 31) >> 3);

async function contents(archive: Uint8Array, limits = LIMITS): Promise<Record<string, string>> {
  const files = await readArchive(archive, 'up.zip', limits);
  return Object.fromEntries([...files].map(([path, data]) => [path, Buffer.from(data).toString()]));
}

async function refuses(archive: Uint8Array, message: RegExp, limits = LIMITS): Promise<void> {
  await assert.rejects(readArchive(archive, 'up.zip', limits), {
    name: 'GatewayError',
    code: 'invalid_file',
    param: 'up.zip',
    message,
  });
}

async function bothRefuse(
  entries: readonly (ZipEntry & TarEntry)[],
  message: RegExp,
  limits = LIMITS,
): Promise<void> {
  await refuses(zipFile(entries), message, limits);
  await refuses(await tarGzFile(entries.map(({ name, data }) => ({ name, data }))), message, limits);
}

test('a zip, deflated and stored, gives its files', async () => {
  const big = noise(140_000); // more than two stored blocks
  const archive = zipFile([
    { name: 'a.json', data: bytes('{"a":1}') },
    { name: 'b.bin', data: big, stored: true },
    { name: 'empty', data: new Uint8Array(0), stored: true },
  ]);
  const files = await readArchive(archive, 'up.zip', LIMITS);
  assert.deepEqual([...files.keys()], ['a.json', 'b.bin', 'empty']);
  assert.deepEqual(files.get('b.bin'), big);
  assert.deepEqual(files.get('a.json'), bytes('{"a":1}'));
  assert.equal(files.get('empty')!.length, 0);
});

test('a tar.gz gives its files', async () => {
  const archive = await tarGzFile([
    { name: 'a.json', data: bytes('{}') },
    { name: 'sub', type: 'directory' },
    { name: `sub/${'long'.repeat(40)}`, data: bytes('x') },
    { name: 'empty', data: new Uint8Array(0) },
  ]);
  assert.deepEqual(await contents(archive), { 'a.json': '{}', [`sub/${'long'.repeat(40)}`]: 'x', empty: '' });
});

test('a folder of a tar that declares a size does not keep the reader waiting', async () => {
  const tar = await tarFile([{ name: 'top', type: 'directory' }, { name: 'top/a', data: bytes('1') }]); // prettier-ignore
  tar.set(Buffer.from('00000002000'), 124);
  const sum = tar
    .subarray(0, 512)
    .fill(0x20, 148, 156)
    .reduce((total, byte) => total + byte, 0);
  tar.set(Buffer.from(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
  assert.deepEqual(await contents(new Uint8Array(gzipSync(tar))), { a: '1' });
});

test('one common top folder is stripped, and no more than one', async () => {
  const inFolder = [
    { name: 'top/', data: new Uint8Array(0) },
    { name: 'top/in/a', data: bytes('1') },
    { name: 'top/in/b', data: bytes('2') },
  ];
  assert.deepEqual(await contents(zipFile(inFolder)), { 'in/a': '1', 'in/b': '2' });
  const dotted = await tarGzFile([{ name: './top/a', data: bytes('1') }, { name: './top/b', data: bytes('2') }]); // prettier-ignore
  assert.deepEqual(await contents(dotted), { a: '1', b: '2' });
  const two = zipFile([{ name: 'x/a', data: bytes('1') }, { name: 'y', data: bytes('2') }]); // prettier-ignore
  assert.deepEqual(await contents(two), { 'x/a': '1', y: '2' });
  assert.deepEqual(await contents(zipFile([{ name: 'a', data: bytes('1') }])), { a: '1' });
});

test('what macOS adds is left out and does not keep the top folder', async () => {
  const entries = [
    { name: 'top/a', data: bytes('1') },
    { name: 'top/.DS_Store', data: bytes('-') },
    { name: 'top/._a', data: bytes('-') },
    { name: '__MACOSX/top/._a', data: bytes('-') },
  ];
  assert.deepEqual(await contents(zipFile(entries)), { a: '1' });
  assert.deepEqual(await contents(await tarGzFile(entries)), { a: '1' });
});

test('the result owns its memory', async () => {
  const archive = zipFile([{ name: 'a', data: bytes('1'), stored: true }]);
  const data = (await readArchive(archive, 'up.zip', LIMITS)).get('a')!;
  assert.equal(Object.getPrototypeOf(data), Uint8Array.prototype);
  assert.equal(data.buffer.byteLength, 1);
});

test('anything else is refused', async () => {
  await refuses(bytes('hello'), /Expected a \.zip or \.tar\.gz archive; its first bytes are of neither/);
  await refuses(new Uint8Array(0), /Expected a \.zip/);
  await refuses(await tarFile([{ name: 'a', data: bytes('1') }]), /Expected a \.zip/);
  await refuses(
    new Uint8Array(gzipSync('no tar at all, but longer than nothing'.repeat(40))),
    /the tar cannot be read/,
  );
  await refuses(bytes('PK\u0003\u0004 and then nothing of the kind'), /the zip cannot be read/);
});

test('an archive without files is refused', async () => {
  await refuses(zipFile([{ name: 'top/', data: new Uint8Array(0) }]), /holds no files/);
  await refuses(await tarGzFile([{ name: 'top', type: 'directory' }]), /holds no files/);
});

test('paths that lead out are refused by name', async () => {
  const data = bytes('x');
  await bothRefuse([{ name: '../evil', data }], /\.\.\/evil/);
  await bothRefuse([{ name: 'a/../../evil', data }], /a\/\.\.\/\.\.\/evil/);
  await bothRefuse([{ name: '/etc/passwd', data }], /absolute path.*|\/etc\/passwd/);
  await bothRefuse([{ name: 'C:/x', data }], /C:\/x/);
  await refuses(zipFile([{ name: '..\\evil', data }]), /\.\.\/evil/);
  await refuses(await tarGzFile([{ name: 'a\\b', data }]), /entry `a\\b` has a NUL or a backslash/);
  await refuses(await tarGzFile([{ name: '../out', type: 'directory' }]), /leads out of the archive/);
});

test('links and devices are refused by name', async () => {
  for (const mode of [0o120777, 0o020666, 0o060666, 0o010644])
    await refuses(
      zipFile([{ name: 'l', data: bytes('/etc/passwd'), mode }]),
      /entry `l` is a link or a device/,
    );
  for (const type of ['symlink', 'link', 'character-device', 'fifo'] as const)
    await refuses(
      await tarGzFile([{ name: 'l', type, linkname: '/etc/passwd' }]),
      new RegExp(`entry \`l\` is a ${type}; only files and folders`),
    );
});

test('encrypted entries and foreign compression are refused', async () => {
  const data = bytes('x');
  await refuses(zipFile([{ name: 'a', data, flags: 0x801 }]), /entry `a` is encrypted/);
  await refuses(
    zipFile([{ name: 'a', data, method: 14 }]),
    /entry `a` has compression method 14; use deflate/,
  );
});

test('a name that comes twice is refused, also in another spelling', async () => {
  const data = bytes('x');
  await bothRefuse([{ name: 'a', data }, { name: 'a', data }], /entry `a` is there twice/); // prettier-ignore
  await bothRefuse([{ name: 't/a', data }, { name: 't/./a', data }], /entry `t\/a` is there twice/); // prettier-ignore
});

test('more files than allowed are refused, and as many as allowed are not', async () => {
  const entries = Array.from({ length: 5 }, (_, i) => ({ name: `f${i}`, data: bytes('x') }));
  await bothRefuse(entries, /entry `f4` is one too many: the archive may hold 4 files/);
  assert.equal((await readArchive(zipFile(entries.slice(1)), 'up.zip', LIMITS)).size, 4);
  const folders = Array.from({ length: 109 }, (_, i) => ({ name: `d${i}/`, data: new Uint8Array(0) }));
  await refuses(zipFile(folders), /more than 108 entries/);
});

test('sizes: exactly the limit is fine, a byte more is not', async () => {
  const limits = { maxFiles: 4, maxTotalBytes: 1500, maxFileBytes: 1000 };
  const fits = [{ name: 'a', data: noise(1000) }, { name: 'b', data: noise(500) }]; // prettier-ignore
  assert.equal((await readArchive(zipFile(fits), 'up.zip', limits)).size, 2);
  assert.equal((await readArchive(await tarGzFile(fits), 'up.zip', limits)).size, 2);
  await bothRefuse(
    [{ name: 'a', data: noise(1001) }],
    /entry `a` is too large: a file may have 1000 bytes/,
    limits,
  );
  const more = [{ name: 'a', data: noise(1000) }, { name: 'b', data: noise(501) }]; // prettier-ignore
  await bothRefuse(more, /entry `b` is too large: .* all files together 1500/, limits);
});

test('a bomb is stopped while it inflates, whatever size it declares', async () => {
  const zeros = new Uint8Array(8 * 1024 * 1024);
  await refuses(zipFile([{ name: 'a', data: zeros, declaredSize: 10 }]), /entry `a` is too large/);
  await refuses(zipFile([{ name: 'a', data: zeros }]), /entry `a` is too large/);
  const members = Array.from({ length: 4 }, () => gzipSync(zeros));
  await refuses(
    Buffer.concat(members),
    /it inflates to more than \d+ bytes; all files together may have 200000/,
  );
});

test('entries that share their data are refused', async () => {
  const data = noise(3000);
  const archive = zipFile([{ name: 'a', data, stored: true }, { name: 'b', data, stored: true }]); // prettier-ignore
  // The second record of the directory points at the first entry's data, and the second entry's are cut out.
  const end = archive.length - 22;
  const view = new DataView(archive.buffer);
  const directory = view.getUint32(end + 16, true);
  const second = directory + 46 + 1;
  view.setUint32(second + 42, 0, true);
  const cut = directory / 2;
  const overlapping = Buffer.concat([archive.subarray(0, cut), archive.subarray(directory)]);
  overlapping.writeUInt32LE(cut, overlapping.length - 6);
  await refuses(overlapping, /entry `b` overlaps another entry/);
});

test('damage is noticed: checksum, length, cut data', async () => {
  const data = noise(2000);
  await refuses(zipFile([{ name: 'a', data, crc: 1 }]), /entry `a` is damaged: incorrect data check/);
  await refuses(
    zipFile([{ name: 'a', data, crc: 1, stored: true }]),
    /entry `a` is damaged: incorrect data check/,
  );
  await refuses(
    zipFile([{ name: 'a', data, declaredSize: 1999 }]),
    /entry `a` is damaged: incorrect length check/,
  );
  await refuses(zipFile([{ name: 'a', data: deflateRawSync(data).subarray(0, 9), stored: true, method: 8, declaredSize: 2000 }]), /entry `a` is damaged/); // prettier-ignore
  const tarGz = await tarGzFile([{ name: 'a', data }]);
  await refuses(tarGz.subarray(0, tarGz.length - 20), /the gzip data are damaged/);
  const tar = await tarFile([{ name: 'a', data }]);
  await refuses(
    new Uint8Array(gzipSync(tar.subarray(0, 1000))),
    /the tar cannot be read: Unexpected end of data/,
  );
});
