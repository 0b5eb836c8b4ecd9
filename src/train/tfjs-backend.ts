// Computes the trainer's graphs, forward and backward, with TensorFlow.js: on a GPU where its native package is installed, else on the
// CPU through WebAssembly, which is slow and is there to check the other backend. Nothing is loaded before it is asked for.

import { createExecutor } from './tfjs/executor.js';
import { loadTfjs } from './tfjs/load.js';
import type { Backend, GraphExecutor } from './types.js';

/** Throws GatewayError unavailable where an installed native package does not load. */
export async function createTfjsBackend(): Promise<Backend> {
  const tf = await loadTfjs();
  const open = new Set<GraphExecutor>();
  return {
    name: 'tfjs',
    async compile(graph) {
      const compiled = createExecutor(tf, graph);
      const executor: GraphExecutor = {
        run: (inputs, outputs, into) => compiled.run(inputs, outputs, into),
        dispose() {
          open.delete(executor);
          compiled.dispose();
        },
      };
      open.add(executor);
      return executor;
    },
    dispose() {
      for (const executor of open) executor.dispose();
    },
  };
}
