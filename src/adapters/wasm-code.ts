// WebAssembly as bytes: the few instructions that a small SIMD kernel is written with, and a module of one memory and one function around
// it. Numbers are those of https://webassembly.github.io/spec/core/binary/ and its chapter on vector instructions.

/** Instructions, encoded. A local is its index below 128, a pointer a local that holds a byte offset into the memory. */
export type Code = readonly number[];

export const get = (local: number): Code => [0x20, local];
export const set = (local: number): Code => [0x21, local];
const tee = (local: number): Code => [0x22, local];

export const i32 = {
  constant: (value: number): Code => [0x41, ...signed(value)],
  add: [0x6a],
  subtract: [0x6b],
  shiftLeft: [0x74],
} as const;

/** Vectors of four f32 and of two f64. */
export const v128 = {
  zero: [...vector(0x0c), ...Array.from({ length: 16 }, () => 0)],
  load: (pointer: number, offset: number): Code => [...get(pointer), ...vector(0x00), 2, ...unsigned(offset)],
  /** One f32 of the memory in all four lanes. */
  loadSplat: (pointer: number, offset: number): Code => [
    ...get(pointer),
    ...vector(0x09),
    2,
    ...unsigned(offset),
  ],
  f32Add: vector(0xe4),
  f32Multiply: vector(0xe6),
  f64Add: vector(0xf0),
  f64Multiply: vector(0xf2),
  /** The two lower f32 as f64. */
  lowerAsF64: vector(0x5f),
  /** A vector with its two upper f32 in the place of the lower, too. */
  getUpper: (local: number): Code => {
    const bytes = [8, 9, 10, 11, 12, 13, 14, 15];
    return [...get(local), ...get(local), ...vector(0x0d), ...bytes, ...bytes];
  },
  f64Lane: (lane: 0 | 1): Code => [...vector(0x21), lane],
} as const;

export const f64 = {
  add: [0xa0],
  /** Takes the value from the stack, after the pointer. */
  store: (offset: number): Code => [0x39, 3, ...unsigned(offset)],
} as const;

/** The local plus a constant. */
export function advance(local: number, by: number): Code {
  return [...get(local), ...i32.constant(by), ...i32.add, ...set(local)];
}

/** Runs the body as often as the local says, at least once, and leaves 0 in it. */
export function loop(counter: number, body: Code): Code {
  const next = [...get(counter), ...i32.constant(1), ...i32.subtract, ...tee(counter)];
  return [0x03, 0x40, ...body, ...next, 0x0d, 0, 0x0b];
}

export interface Kernel {
  readonly memory: WebAssembly.Memory;
  run(...parameters: number[]): void;
}

/** A module that exports `memory` and `run`; locals are numbered from the parameters on, those of i32 first. */
export function moduleBytes(sizes: {
  readonly parameters: number;
  readonly i32Locals: number;
  readonly v128Locals: number;
  readonly body: Code;
}): Uint8Array {
  const [I32, V128] = [0x7f, 0x7b];
  const parameters = Array.from({ length: sizes.parameters }, () => [I32]);
  const locals = list([
    [...unsigned(sizes.i32Locals), I32],
    [...unsigned(sizes.v128Locals), V128],
  ]);
  const code = [...locals, ...sizes.body, 0x0b];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, list([[0x60, ...list(parameters), ...list([])]])),
    ...section(3, list([[0]])),
    ...section(5, list([[0, 1]])),
    ...section(7, list([exported('memory', 2), exported('run', 0)])),
    ...section(10, list([[...unsigned(code.length), ...code]])),
  ]);
}

function exported(name: string, kind: number): Code {
  return [...list(Array.from(name, (char) => [char.charCodeAt(0)])), kind, 0];
}

function section(id: number, content: Code): Code {
  return [id, ...unsigned(content.length), ...content];
}

function list(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function vector(opcode: number): Code {
  return [0xfd, ...unsigned(opcode)];
}

/** LEB128: seven bits a byte, the last without the eighth. */
function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: number): Code {
  return value >= -64 && value < 64 ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(value >> 7)];
}

/** What is used of WebAssembly: its types come with those of browsers, which are not loaded. */
declare global {
  namespace WebAssembly {
    interface Module {
      readonly [Symbol.toStringTag]: string;
    }
    interface Instance {
      readonly exports: object;
    }
    interface Memory {
      readonly buffer: ArrayBuffer;
      /** Adds pages of 65,536 bytes; earlier buffers become empty. */
      grow(pages: number): number;
    }
    const Module: new (bytes: Uint8Array) => Module;
    const Instance: new (module: Module) => Instance;
    function validate(bytes: Uint8Array): boolean;
  }
}
