// Puts an app on a TCP port, and takes it off again without cutting answers short.

import { createServer, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { assert } from '../errors.js';
import type { ServerApp } from './services.js';

export interface ListenOptions {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
}

export interface Listener {
  readonly url: string;
  readonly port: number;
  /** Takes no new connections, closes idle ones, and resolves when the last answer has been sent. */
  close(): Promise<void>;
}

/** Longer than load balancers keep an idle connection, so that they never reuse one that is being closed. */
const KEEP_ALIVE_MS = 75_000;

/** Rejects where the address cannot be taken. */
export async function serve(app: ServerApp, { host, port }: ListenOptions): Promise<Listener> {
  const server = createServer();
  const connections = new Connections(server);
  const answer = getRequestListener(app.fetch);
  server.on('request', (request, response) => void answer(request, response));
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  const bound = await listen(server, host, port);
  let closed: Promise<void> | null = null;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}`,
    port: bound,
    close() {
      closed ??= new Promise((resolve, reject) => {
        server.close((error) => (error ? reject(error) : resolve()));
        connections.drain();
      });
      return closed;
    },
  };
}

/**
 * Ends each connection when its last answer is through, once drain() is called. Node's closeIdleConnections knows only
 * connections that have had a request: one that a client opened ahead of its next request would keep a server open.
 */
class Connections {
  /** The number of answers under way on each. */
  readonly #numAnswers = new Map<Socket, number>();
  #isDraining = false;

  constructor(server: Server) {
    server.on('connection', (socket) => {
      this.#numAnswers.set(socket, 0);
      socket.once('close', () => this.#numAnswers.delete(socket));
    });
    server.on('request', ({ socket }, response) => {
      this.#count(socket, 1);
      if (this.#isDraining) response.shouldKeepAlive = false;
      response.once('close', () => this.#count(socket, -1));
    });
  }

  drain(): void {
    this.#isDraining = true;
    for (const [socket, numAnswers] of this.#numAnswers) if (numAnswers === 0) socket.destroySoon();
  }

  #count(socket: Socket, change: number): void {
    const numAnswers = this.#numAnswers.get(socket);
    if (numAnswers === undefined) return;
    this.#numAnswers.set(socket, numAnswers + change);
    if (this.#isDraining && numAnswers + change === 0) socket.destroySoon();
  }
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      const address = server.address();
      assert(typeof address === 'object' && address !== null, 'a TCP server has an address');
      resolve(address.port);
    });
  });
}
