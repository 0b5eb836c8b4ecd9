// What a tenant stores, adapters and files, goes in turns: between a quota's check and the row that it let in, nothing else is let in.
// Bytes lie in both services, so neither can see to that alone.

import type { AdapterService } from '../adapters/protocol.js';
import type { Turns } from '../tenants/turns.js';
import type { TrainingService } from '../train/jobs/types.js';

export function registeringInTurn<S extends AdapterService>(adapters: S, inTurn: Turns): S {
  return {
    ...adapters,
    of(tenant) {
      const own = adapters.of(tenant);
      return { ...own, register: (name, files) => inTurn(tenant, () => own.register(name, files)) };
    },
  };
}

export function addingInTurn(training: TrainingService, inTurn: Turns): TrainingService {
  return {
    ...training,
    of(tenant) {
      const own = training.of(tenant);
      const { files } = own;
      const add: typeof files.add = (...upload) => inTurn(tenant, () => files.add(...upload));
      return { ...own, files: { ...files, add } };
    },
  };
}
