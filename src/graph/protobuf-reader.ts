// Protocol-buffer wire format, reading side: walks the fields of one message without a schema.

import { assert } from '../errors.js';

type Visitor = (field: number, value: Uint8Array) => unknown;

/** Calls `visit` with each length-delimited field's number and bytes (a view, not a copy); other kinds are skipped. */
export function visitFields(message: Uint8Array, visit: Visitor): void {
  walk(message, (field, value) => value !== null && visit(field, value));
}

/** A copy of the message without the length-delimited fields for which `drop` holds. */
export function dropFields(
  message: Uint8Array,
  drop: (field: number, value: Uint8Array) => boolean,
): Uint8Array {
  const kept: Uint8Array[] = [];
  walk(message, (field, value, start, end) => {
    if (value === null || !drop(field, value)) kept.push(message.subarray(start, end));
  });
  return Buffer.concat(kept);
}

/** Every field in order: its number, its bytes where it is length-delimited, and the range [start, end) it takes, tag included. */
function walk(
  message: Uint8Array,
  visit: (field: number, value: Uint8Array | null, start: number, end: number) => void,
): void {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++];
      assert(byte !== undefined, 'protobuf: message ends within a number');
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const start = at;
    const tag = varint();
    const wireType = tag & 7;
    let value: Uint8Array | null = null;
    if (wireType === 0) varint();
    else if (wireType === 1) at += 8;
    else if (wireType === 5) at += 4;
    else {
      assert(wireType === 2, `protobuf: wire type ${wireType}`);
      const length = varint();
      value = message.subarray(at, at + length);
      at += length;
    }
    assert(at <= message.length, 'protobuf: message ends within a field');
    visit(Math.floor(tag / 8), value, start, at);
  }
}
