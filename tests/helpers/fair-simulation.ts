// Slots and clients without a model: each client keeps a number of requests under way, each step gives every running request a token.
import type { AdmissionQueue, Claim } from '../../src/engine/admission-queue.js';
import { OUTPUT_TOKEN_WEIGHT, PROMPT_TOKEN_WEIGHT } from '../../src/engine/fairness.js';

export interface SimulatedClient extends Claim {
  /** Requests that it has waiting or running at all times. */
  readonly numUnderWay: number;
  readonly numPrompt: number;
  readonly numOutput: number;
  /** First step in which it sends anything. */
  readonly from?: number;
}

export interface SimulatedRequest {
  readonly client: SimulatedClient;
  /** Admissions of all before this one began to wait, and after it was admitted. */
  readonly arrivedAt: number;
  admittedAt: number;
  numLeft: number;
}

/** The part of AdmissionQueue that a simulation needs. */
export type Policy = Pick<AdmissionQueue<SimulatedRequest>, 'size' | 'add' | 'admit' | 'charge' | 'ended'>;

export interface Simulated {
  /** Weighted tokens in the order of the clients. */
  readonly service: readonly number[];
  readonly admissions: readonly SimulatedRequest[];
}

export function claim(tenant: string, options: Partial<Claim> = {}): Claim {
  return { tenant, fairnessId: null, priority: 0, adapterKey: '', ...options };
}

/** What has no policy: first come, first served. */
export function firstComeFirstServed(): Policy {
  const waiting: SimulatedRequest[] = [];
  return {
    get size() {
      return waiting.length;
    },
    add: (request) => void waiting.push(request),
    admit: () => waiting.shift()!,
    charge: () => undefined,
    ended: () => undefined,
  };
}

export function simulate(
  policy: Policy,
  clients: readonly SimulatedClient[],
  { slots, steps }: { readonly slots: number; readonly steps: number },
): Simulated {
  const service = new Map(clients.map((client) => [client, 0]));
  const running = new Set<SimulatedRequest>();
  const admissions: SimulatedRequest[] = [];
  const send = (client: SimulatedClient): void => {
    const request = { client, arrivedAt: admissions.length, admittedAt: -1, numLeft: client.numOutput };
    policy.add(request, client);
  };
  const serve = (request: SimulatedRequest, tokens: number): void => {
    policy.charge(request, tokens);
    service.set(request.client, service.get(request.client)! + tokens);
  };
  for (let step = 0; step < steps; step++) {
    for (const client of clients)
      if ((client.from ?? 0) === step) for (let i = 0; i < client.numUnderWay; i++) send(client);
    while (policy.size > 0 && running.size < slots) {
      const request = policy.admit();
      request.admittedAt = admissions.length;
      admissions.push(request);
      running.add(request);
      serve(request, PROMPT_TOKEN_WEIGHT * request.client.numPrompt);
    }
    for (const request of running) {
      serve(request, OUTPUT_TOKEN_WEIGHT);
      if (--request.numLeft > 0) continue;
      running.delete(request);
      policy.ended(request);
      send(request.client);
    }
  }
  return { service: clients.map((client) => service.get(client)!), admissions };
}
