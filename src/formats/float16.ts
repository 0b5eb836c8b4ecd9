// Conversions between f32 and the 16-bit floats (IEEE binary16 and bfloat16), little-endian, for whole arrays.
// f16 -> f32 is a constant table of all 65,536 values; f32 -> f16 rounds to nearest, ties to even, as hardware does.

const F16_TO_F32 = buildTable();

/** The value of one binary16 bit pattern (0..65535). */
export function float16Value(bits: number): number {
  return F16_TO_F32[bits]!;
}

/** 2n bytes of binary16 -> n values. */
export function float16ToFloat32(bytes: Uint8Array): Float32Array {
  const codes = asUint16(bytes);
  const out = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) out[i] = F16_TO_F32[codes[i]!]!;
  return out;
}

/** 2n bytes of bfloat16 -> n values: bfloat16 is the upper half of an f32. */
export function bfloat16ToFloat32(bytes: Uint8Array): Float32Array {
  const codes = asUint16(bytes);
  const out = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i++) out[i] = codes[i]! << 16;
  return new Float32Array(out.buffer);
}

/** n values -> n binary16 bit patterns; beyond 65,504 becomes infinity, NaN stays NaN. */
export function float32ToFloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) out[i] = roundToFloat16(bits[i]!);
  return out;
}

function roundToFloat16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65,520 and more round to infinity
  if (magnitude >= 0x38800000) return sign | shiftRounded(magnitude - 0x38000000, 13); // normal: rebias 127 -> 15
  if (magnitude <= 0x33000000) return sign; // 2^-25, half of the least subnormal, ties to zero
  const exponent = magnitude >>> 23;
  return sign | shiftRounded((magnitude & 0x7fffff) | 0x800000, 126 - exponent);
}

/** value / 2^shift, rounded to nearest, ties to even. A carry runs into the exponent, which is right. */
function shiftRounded(value: number, shift: number): number {
  const half = 1 << (shift - 1);
  const odd = (value >>> shift) & 1;
  return (value + half - 1 + odd) >>> shift;
}

function buildTable(): Float32Array {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) table[bits] = fraction === 0 ? sign * Infinity : NaN;
    else if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else table[bits] = sign * (1024 + fraction) * 2 ** (exponent - 25);
  }
  return table;
}

/** The bytes as 16-bit words: a view where the alignment allows, else a copy. */
function asUint16(bytes: Uint8Array): Uint16Array {
  const count = bytes.byteLength >> 1;
  if (bytes.byteOffset % 2 === 0) return new Uint16Array(bytes.buffer, bytes.byteOffset, count);
  const copy = new Uint16Array(count);
  new Uint8Array(copy.buffer).set(bytes.subarray(0, 2 * count));
  return copy;
}
