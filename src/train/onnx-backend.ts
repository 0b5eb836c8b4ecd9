// Computes the trainer's graphs with ONNX Runtime, over memory that JavaScript owns: inputs are read where they are, outputs are written
// where they shall be.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GraphBuilder } from '../graph/builder.js';
import type { Runtime } from '../runtime/runtime.js';
import type { Session } from '../runtime/session.js';
import type { Tensor } from '../runtime/tensor.js';
import type { Backend, GraphExecutor, InputValue } from './types.js';

const SPIN_MICROSECONDS = '50';

/** `threads` compute; the runtime stays the caller's. */
export function createOnnxBackend(runtime: Runtime, threads: number): Backend {
  const open = new Set<GraphExecutor>();
  return {
    name: 'onnx',
    async compile(graph) {
      const session = await loadSession(runtime, threads, graph);
      const executor: GraphExecutor = {
        run: (inputs, outputs, into) => runSession(runtime, session, inputs, outputs, into),
        dispose() {
          open.delete(executor);
          session.dispose();
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

/** The library loads files only. */
async function loadSession(runtime: Runtime, threads: number, graph: GraphBuilder): Promise<Session> {
  const folder = mkdtempSync(join(tmpdir(), 'graph-'));
  try {
    const path = join(folder, 'graph.onnx');
    writeFileSync(path, graph.encode());
    return await runtime.session(path, {
      threads,
      sharedArena: true,
      config: { 'session.intra_op.spin_duration_us': SPIN_MICROSECONDS },
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function runSession(
  runtime: Runtime,
  session: Session,
  inputs: ReadonlyMap<string, InputValue>,
  outputs: ReadonlyMap<string, readonly number[]>,
  into: ReadonlyMap<string, Float32Array> = new Map(),
): Promise<ReadonlyMap<string, Float32Array>> {
  const tensors: Tensor[] = [];
  const tensor = (data: InputValue['data'], shape: readonly number[]): Tensor => {
    const made = runtime.tensor(data, shape);
    tensors.push(made);
    return made;
  };
  const results = new Map<string, Float32Array>();
  try {
    const given = [...inputs].map(([name, { data, shape }]) => [name, tensor(data, shape)] as const);
    const wanted = [...outputs].map(([name, shape]) => {
      const result = into.get(name) ?? new Float32Array(shape.reduce((size, dim) => size * dim, 1));
      results.set(name, result);
      return [name, tensor(result, shape)] as const;
    });
    await session.run(given, wanted);
    return results;
  } finally {
    for (const each of tensors) each.dispose();
  }
}
