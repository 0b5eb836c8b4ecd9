// A Hugging Face Hub in miniature on a free port: the file tree, LFS redirects with the checksum, ranges, and faults on demand.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

export interface FakeHub {
  readonly endpoint: string;
  /** `METHOD path range` of each request, in order. */
  readonly requests: string[];
  /** Authorization headers by request path. */
  readonly tokens: Map<string, string | undefined>;
  /** Files of owner/name by name; large ones (.safetensors, .gguf) are served as LFS. */
  readonly files: Map<string, Buffer>;
  fault: Fault | null;
  /** Another storage host for large files. */
  redirectTo: string;
  /** Announced instead of the true size. */
  linkedSize: number | null;
  close(): Promise<void>;
}

export type Fault =
  /** Breaks the connection once, after so many bytes of the body. */
  | { kind: 'cut'; afterBytes: number; times: number }
  /** Sends these bytes instead, under the true checksum. */
  | { kind: 'corrupt' }
  /** Never answers, or stops within the body and keeps the connection. */
  | { kind: 'silent'; within: 'headers' | 'body' }
  | { kind: 'status'; status: number; errorCode?: string; times: number };

export async function startFakeHub(files: Record<string, Buffer> = {}): Promise<FakeHub> {
  const server = createServer((request, response) => answer(hub, request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert(address !== null && typeof address === 'object');
  const { port } = address;
  const hub: FakeHub = {
    endpoint: `http://127.0.0.1:${port}`,
    requests: [],
    tokens: new Map(),
    files: new Map(Object.entries(files)),
    fault: null,
    redirectTo: '',
    linkedSize: null,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return hub;
}

function answer(hub: FakeHub, request: IncomingMessage, response: ServerResponse): void {
  const url = request.url ?? '';
  hub.requests.push([request.method, url, request.headers.range].filter(Boolean).join(' '));
  hub.tokens.set(url, request.headers.authorization);
  if (hub.fault?.kind === 'silent' && hub.fault.within === 'headers') return;
  if (hub.fault?.kind === 'status' && hub.fault.times-- > 0) {
    const code = hub.fault.errorCode;
    response.writeHead(hub.fault.status, code === undefined ? {} : { 'x-error-code': code }).end();
    return;
  }
  if (url.startsWith('/api/models/owner/name/tree/')) {
    const tree = [...hub.files].map(([path, { length }]) => ({ type: 'file', path, size: length }));
    response.setHeader('content-type', 'application/json').end(JSON.stringify(tree));
    return;
  }
  const name = decodeURIComponent(/^\/(?:owner\/name\/resolve\/[^/]+|lfs)\/(.+)$/.exec(url)?.[1] ?? '');
  const bytes = hub.files.get(name);
  if (bytes === undefined) response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end();
  else if (url.startsWith('/lfs/')) sendBody(hub, request, response, bytes, '"storage-etag"');
  else if (/\.(safetensors|gguf)$/.test(name)) redirectToStorage(hub, response, name, bytes);
  else sendBody(hub, request, response, bytes, `"${digest('sha1', bytes)}"`);
}

function redirectToStorage(hub: FakeHub, response: ServerResponse, name: string, bytes: Buffer): void {
  response.writeHead(302, {
    'x-linked-etag': `"${digest('sha256', bytes)}"`,
    'x-linked-size': String(hub.linkedSize ?? bytes.length),
    location: `${hub.redirectTo}/lfs/${encodeURIComponent(name)}`,
  });
  response.end();
}

function sendBody(
  hub: FakeHub,
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  etag: string,
): void {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (start >= bytes.length && start > 0) {
    response.writeHead(416).end();
    return;
  }
  const body = Buffer.from(bytes.subarray(start));
  response.writeHead(start > 0 ? 206 : 200, {
    etag,
    'content-length': body.length,
    ...(start > 0 && { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
  });
  if (hub.fault?.kind === 'silent') {
    if (start === 0) response.write(body.subarray(0, 10));
    else response.flushHeaders();
    return;
  }
  if (hub.fault?.kind === 'corrupt') body[body.length - 1]! ^= 1;
  if (hub.fault?.kind === 'cut' && hub.fault.times-- > 0)
    response.write(body.subarray(0, hub.fault.afterBytes), () => response.destroy());
  else response.end(body);
}

export function digest(algorithm: string, bytes: Buffer): string {
  return createHash(algorithm).update(bytes).digest('hex');
}
