// The metadata values of GGUF: twelve scalar types and arrays of them, read from a cursor.

import { type GgufCursor } from './gguf-cursor.js';

export type GgufValue = number | string | boolean | readonly GgufValue[];

/** Smallest number of bytes of a value, by GGUF's number for its type. */
const MIN_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8] as const;
const STRING = 8;
const ARRAY = 9;
const MAX_ARRAY_LENGTH = 2 ** 24;
const MAX_ARRAY_DEPTH = 4;

/** Type number, then the value. */
export function readGgufValue(cursor: GgufCursor): GgufValue {
  return readOfType(cursor, readType(cursor), 0);
}

function readType(cursor: GgufCursor): number {
  const type = cursor.u32();
  if (type >= MIN_BYTES.length) throw cursor.refuse(`${type} is not the number of a value type (0..12)`);
  return type;
}

function readOfType(cursor: GgufCursor, type: number, depth: number): GgufValue {
  switch (type) {
    case 0:
      return cursor.u8();
    case 1:
      return cursor.i8();
    case 2:
      return cursor.u16();
    case 3:
      return cursor.i16();
    case 4:
      return cursor.u32();
    case 5:
      return cursor.i32();
    case 6:
      return cursor.f32();
    case 7:
      return cursor.bool();
    case STRING:
      return cursor.string();
    case ARRAY:
      return readArray(cursor, depth + 1);
    case 10:
      return cursor.u64();
    case 11:
      return cursor.i64();
    default:
      return cursor.f64();
  }
}

/** Element type, u64 count, elements. */
function readArray(cursor: GgufCursor, depth: number): readonly GgufValue[] {
  if (depth > MAX_ARRAY_DEPTH) throw cursor.refuse(`arrays are nested more than ${MAX_ARRAY_DEPTH} deep`);
  const type = readType(cursor);
  const count = cursor.u64();
  if (count > MAX_ARRAY_LENGTH)
    throw cursor.refuse(`an array has ${count} elements, more than ${MAX_ARRAY_LENGTH}`);
  cursor.checkCount(count, MIN_BYTES[type]!, 'array elements');
  const values: GgufValue[] = [];
  for (let i = 0; i < count; i++) values.push(readOfType(cursor, type, depth));
  return values;
}
