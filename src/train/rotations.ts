// Tables of the rotary embedding that grow with the longest sequence seen.

import type { Architecture } from '../model/architecture.js';
import { type RopeTables, ropeTables } from '../model/rope.js';

/** Tables that hold at least `length` positions. */
export function createRotations(arch: Architecture): (length: number) => RopeTables {
  let held = 0;
  let tables: RopeTables = { cos: new Float32Array(), sin: new Float32Array() };
  return (length) => {
    if (length > held) {
      held = 2 ** Math.ceil(Math.log2(length));
      tables = ropeTables(arch, held);
    }
    return tables;
  };
}
