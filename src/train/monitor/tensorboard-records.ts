// TensorBoard's event records: TFRecord framing around the protobuf message Event.
// https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto (event.proto, summary.proto)

import { MessageWriter } from '../../graph/protobuf.js';
import { crc32c } from './crc32c.js';

/** The first record of every file. */
export function versionRecord(wallTimeS: number): Uint8Array {
  return frame(event(wallTimeS, 0, (message) => message.string(3, 'brain.Event:2')));
}

/** Tells TensorBoard to forget what earlier files say about `step` and later ones: the run went on from before it. */
export function restartRecord(wallTimeS: number, step: number): Uint8Array {
  const SESSION_START = 1;
  return frame(
    event(wallTimeS, step, (message) => message.message(7, new MessageWriter().varint(1, SESSION_START))),
  );
}

export function scalarsRecord(
  wallTimeS: number,
  step: number,
  scalars: Readonly<Record<string, number>>,
): Uint8Array {
  const summary = new MessageWriter();
  for (const [tag, value] of Object.entries(scalars))
    summary.message(1, new MessageWriter().string(1, tag).float(2, value));
  return frame(event(wallTimeS, step, (message) => message.message(5, summary)));
}

/** Field 1 is a double, which MessageWriter has no call for. */
function event(wallTimeS: number, step: number, fill: (message: MessageWriter) => MessageWriter): Uint8Array {
  const wallTime = new Uint8Array(9);
  const view = new DataView(wallTime.buffer);
  view.setUint8(0, (1 << 3) | 1);
  view.setFloat64(1, wallTimeS, true);
  return Buffer.concat([wallTime, fill(new MessageWriter().varint(2, step)).finish()]);
}

/** u64 length | masked crc of it | data | masked crc of that; little-endian. */
function frame(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(16 + data.length);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, mask(crc32c(record.subarray(0, 8))), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, mask(crc32c(data)), true);
  return record;
}

/** So that the checksum of data that holds checksums is not weakened. */
function mask(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
