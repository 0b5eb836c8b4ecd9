// API keys and tenants over real SQLite: what lets whom in, and from when on.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { createTenant, NO_SETTINGS } from '../../src/tenants/directory.js';
import { createKey, revokeKey } from '../../src/tenants/keys.js';
import { newSecret } from '../../src/tenants/secret.js';
import { makeKey, openTenantDatabase, testTenants } from '../helpers/tenants.js';

const NOW_S = 1_700_000_000;
const at = () => ({ nowMs: NOW_S * 1000 });

const withCode =
  (code: string, pattern = /./) =>
  (error: unknown) => {
    assert(error instanceof GatewayError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };
const refused = (pattern: RegExp) => withCode('invalid_api_key', pattern);

test('a key is 32 random bytes behind sk-, and its prefix tells 6 characters of them', () => {
  const { text, prefix, hash } = newSecret((count) => new Uint8Array(count).fill(255));
  assert.equal(text, `sk-${'_'.repeat(42)}8`);
  assert.equal(prefix, 'sk-______');
  assert.equal(hash, createHash('sha256').update(text).digest('hex'));
  assert.notEqual(newSecret().text, newSecret().text);
});

test('while no key exists everybody is let in, from the first key on only who has one, even after the last was revoked', async (t) => {
  const { tenants } = await testTenants(t, at());
  assert.equal(await tenants.access.isOpen(), true);
  const anyone = await tenants.access.identify(null);
  assert.deepEqual([anyone.tenant, anyone.keyId, anyone.scopes.size], ['default', null, 4]);
  const key = await tenants.createKey({
    tenant: 'default',
    name: 'first',
    scopes: ['chat'],
    expiresAt: null,
  });
  assert.equal(await tenants.access.isOpen(), false);
  await assert.rejects(tenants.access.identify(null), refused(/asks for an API key/));
  await assert.rejects(tenants.access.identify('sk-wrong'), refused(/not known/));
  const caller = await tenants.access.identify(key.secret);
  assert.deepEqual([caller.keyId, [...caller.scopes]], [key.id, ['chat']]);
  await tenants.revokeKey(key.id);
  await assert.rejects(tenants.access.identify(key.secret), refused(/revoked/));
  assert.equal(await tenants.access.isOpen(), false);
});

test('a refusal does not repeat the key', async (t) => {
  const { tenants } = await testTenants(t, at());
  await makeKey(tenants, ['chat']);
  await assert.rejects(tenants.access.identify('sk-secret'), (error) => !String(error).includes('sk-secret'));
});

test('the database holds no key, only its hash', async (t) => {
  const { tenants, database } = await testTenants(t, at());
  const secret = await makeKey(tenants, ['admin']);
  const rows = await database.selectFrom('api_keys').selectAll().execute();
  assert(!JSON.stringify(rows).includes(secret.slice(9)), 'the row tells the key');
  assert.equal(rows[0]!.hash, createHash('sha256').update(secret).digest('hex'));
  assert(!JSON.stringify(await tenants.listKeys(null)).includes(rows[0]!.hash), 'the list tells the hash');
});

test('a key ends in the second in which it expires', async (t) => {
  const { tenants, time } = await testTenants(t, at());
  const secret = await makeKey(tenants, ['chat'], 'default', NOW_S + 60);
  time.nowMs += 59_999;
  await tenants.access.identify(secret);
  time.nowMs += 1;
  await assert.rejects(tenants.access.identify(secret), refused(/expired/));
});

test('rotation: both keys for the overlap, then the new one alone, with the scopes and the length of life of the old', async (t) => {
  const { tenants, time } = await testTenants(t, at());
  const request = {
    tenant: 'default',
    name: 'app',
    scopes: ['chat', 'train'],
    expiresAt: NOW_S + 1000,
  } as const;
  const old = await tenants.createKey(request);
  time.nowMs += 100_000;
  const next = await tenants.rotateKey(old.id, 300);
  assert.deepEqual([next.name, next.scopes, next.expiresAt], ['app', ['chat', 'train'], NOW_S + 1100]);
  time.nowMs += 299_999;
  await tenants.access.identify(old.secret);
  await tenants.access.identify(next.secret);
  time.nowMs += 1;
  await assert.rejects(tenants.access.identify(old.secret), refused(/expired/));
  await tenants.access.identify(next.secret);
  assert.equal((await tenants.listKeys('default')).find((key) => key.id === old.id)!.rotatedTo, next.id);
});

test('rotation never lengthens a key’s life, and without overlap ends it at once', async (t) => {
  const { tenants } = await testTenants(t, at());
  const short = await tenants.createKey({
    tenant: 'default',
    name: '',
    scopes: ['chat'],
    expiresAt: NOW_S + 10,
  });
  await tenants.rotateKey(short.id, 3600);
  const [row] = await tenants.listKeys(null);
  assert.equal(row!.expiresAt, NOW_S + 10);
  const other = await tenants.createKey({ tenant: 'default', name: '', scopes: ['chat'], expiresAt: null });
  const { expiresAt } = await tenants.rotateKey(other.id, 0);
  assert.equal(expiresAt, null);
  await assert.rejects(tenants.access.identify(other.secret), refused(/expired/));
});

test('a key that has ended or was rotated is not rotated again, and the refusal makes no key', async (t) => {
  const { tenants, time } = await testTenants(t, at());
  const make = (expiresAt: number | null) =>
    tenants.createKey({ tenant: 'default', name: '', scopes: ['chat'], expiresAt });
  const [revoked, expired, rotated] = [await make(null), await make(NOW_S + 1), await make(null)];
  await tenants.revokeKey(revoked.id);
  await tenants.rotateKey(rotated.id, 1000);
  time.nowMs += 2000;
  const before = (await tenants.listKeys(null)).length;
  await assert.rejects(tenants.rotateKey(revoked.id, 0), withCode('invalid_value', /is revoked/));
  await assert.rejects(tenants.rotateKey(expired.id, 0), withCode('invalid_value', /is expired/));
  await assert.rejects(tenants.rotateKey(rotated.id, 0), withCode('invalid_value', /is rotated to key_/));
  await assert.rejects(tenants.rotateKey('key_none', 0), withCode('not_found'));
  await assert.rejects(tenants.revokeKey('key_none'), withCode('not_found'));
  assert.equal((await tenants.listKeys(null)).length, before);
});

test('a key for a tenant that does not exist, without scopes or already expired is refused and not made', async (t) => {
  const { tenants } = await testTenants(t, at());
  const fine = { tenant: 'default', name: '', scopes: ['chat'], expiresAt: null } as const;
  await assert.rejects(tenants.createKey({ ...fine, tenant: 'nobody' }), withCode('not_found', /nobody/));
  await assert.rejects(tenants.createKey({ ...fine, scopes: [] }), withCode('invalid_value', /scopes/));
  await assert.rejects(
    tenants.createKey({ ...fine, expiresAt: NOW_S }),
    withCode('invalid_value', /expires_at/),
  );
  await assert.rejects(
    tenants.createKey({ ...fine, name: 'x'.repeat(129) }),
    withCode('invalid_value', /name/),
  );
  assert.equal(await tenants.access.isOpen(), true);
});

test('what another process does counts from the next request on: a first key, a revocation, a tenant’s limits', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tenants-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'registry.db');
  const { tenants } = await testTenants(t, at(), path);
  const other = openTenantDatabase(path);
  t.after(() => other.destroy());
  assert.equal(await tenants.access.isOpen(), true);
  const key = await createKey(
    other,
    { tenant: 'default', name: '', scopes: ['admin'], expiresAt: null },
    NOW_S,
  );
  await assert.rejects(tenants.access.identify(null), refused(/asks for/));
  await tenants.access.identify(key.secret);
  await createTenant(other, 'acme', { ...NO_SETTINGS, priority: 3 }, NOW_S);
  const acme = await createKey(other, { tenant: 'acme', name: '', scopes: ['chat'], expiresAt: null }, NOW_S);
  assert.equal((await tenants.access.identify(acme.secret)).priority, 3);
  assert.equal(tenants.access.tenant('acme')?.priority, 3);
  await revokeKey(other, key.id, NOW_S);
  await assert.rejects(tenants.access.identify(key.secret), refused(/revoked/));
});

test('a revocation counts although another look at the keys is under way', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tenants-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'registry.db');
  const { tenants } = await testTenants(t, at(), path);
  const other = openTenantDatabase(path);
  t.after(() => other.destroy());
  const key = await tenants.createKey({ tenant: 'default', name: '', scopes: ['chat'], expiresAt: null });
  for (let round = 0; round < 20; round++) {
    const next = await tenants.createKey({ tenant: 'default', name: '', scopes: ['chat'], expiresAt: null });
    // The other process's change makes each look read the rows anew, while the revocation changes them.
    await createTenant(other, `t${round}`, NO_SETTINGS, NOW_S);
    const looks = Array.from({ length: 5 }, () => tenants.access.identify(key.secret));
    await tenants.revokeKey(next.id);
    await Promise.all(looks);
    await assert.rejects(tenants.access.identify(next.secret), refused(/revoked/));
  }
});

test('tenants: a name once and for ever, settings whole, and deletion ends the keys', async (t) => {
  const { tenants, database } = await testTenants(t, at());
  const limits = { requestsPerMinute: 5, tokensPerMinute: 1000 };
  await tenants.createTenant('acme', { ...NO_SETTINGS, limits });
  await assert.rejects(tenants.createTenant('acme', NO_SETTINGS), withCode('tenant_exists'));
  for (const name of ['', '-a', 'a/b', 'a b', 'x'.repeat(65)])
    await assert.rejects(tenants.createTenant(name, NO_SETTINGS), withCode('invalid_value', /name/));
  assert.deepEqual(tenants.access.tenant('acme'), { name: 'acme', createdAt: NOW_S, ...NO_SETTINGS, limits });
  await tenants.updateTenant('acme', { ...NO_SETTINGS, priority: -1 });
  assert.deepEqual(tenants.access.tenant('acme'), {
    name: 'acme',
    createdAt: NOW_S,
    ...NO_SETTINGS,
    priority: -1,
  });
  const secret = await makeKey(tenants, ['chat'], 'acme');
  await tenants.deleteTenant('acme');
  await assert.rejects(tenants.access.identify(secret), refused(/revoked/));
  assert.deepEqual(
    tenants.access.tenants().map(({ name }) => name),
    ['default'],
  );
  await assert.rejects(tenants.updateTenant('acme', NO_SETTINGS), withCode('not_found'));
  await assert.rejects(tenants.deleteTenant('acme'), withCode('not_found'));
  await assert.rejects(
    tenants.createTenant('acme', NO_SETTINGS),
    withCode('tenant_exists', /not given twice/),
  );
  await assert.rejects(tenants.deleteTenant('default'), withCode('invalid_value'));
  const fine = { tenant: 'acme', name: '', scopes: ['chat'], expiresAt: null } as const;
  await assert.rejects(createKey(database, fine, NOW_S), withCode('not_found'));
});
