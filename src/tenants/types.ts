// Who a request is for, and what it may do.

/** chat: generate; adapters: upload and delete; train: files and jobs; admin: everything of every tenant. */
export const SCOPES = ['chat', 'adapters', 'train', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

/** The tenant of every request while no key exists, and of what was registered before there were tenants. */
export const DEFAULT_TENANT = 'default';

export interface Caller {
  readonly tenant: string;
  /** Null without keys. */
  readonly keyId: string | null;
  readonly scopes: ReadonlySet<Scope>;
  /** Of the tenant's requests for a slot; higher goes first, 0 is normal. */
  readonly priority: number;
}

/** Null is without a limit. */
export interface RateLimits {
  readonly requestsPerMinute: number | null;
  /** Prompt and completion together. */
  readonly tokensPerMinute: number | null;
}

/** Null is without a limit. */
export interface Quotas {
  /** Names registered. */
  readonly adapters: number | null;
  /** Of stored adapters and files of examples together. */
  readonly bytes: number | null;
  /** Jobs that have not ended. */
  readonly jobs: number | null;
}

export interface TenantSettings {
  readonly limits: RateLimits;
  readonly quotas: Quotas;
  /** Higher goes first, 0 is normal. */
  readonly priority: number;
}

export interface Tenant extends TenantSettings {
  readonly name: string;
  /** Unix seconds. */
  readonly createdAt: number;
}

/** All but the key itself, which nobody keeps. Times are Unix seconds. */
export interface ApiKey {
  readonly id: string;
  readonly tenant: string;
  /** For people. */
  readonly name: string;
  /** How the key begins. */
  readonly prefix: string;
  readonly scopes: readonly Scope[];
  readonly createdAt: number;
  /** From then on it is refused; null is never. */
  readonly expiresAt: number | null;
  readonly revokedAt: number | null;
  /** Within a second; null is never. */
  readonly lastUsedAt: number | null;
  /** The id of the key that a rotation made of it. */
  readonly rotatedTo: string | null;
}

/** A key as it is shown once. */
export interface NewApiKey extends ApiKey {
  readonly secret: string;
}
