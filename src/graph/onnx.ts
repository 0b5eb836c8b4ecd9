// The part of ONNX's schema that we write, as plain values, and its encoding (onnx.proto; field numbers beside each line).

import { dropFields, visitFields } from './protobuf-reader.js';
import { MessageWriter } from './protobuf.js';

export const DATA_TYPE = { f32: 1, u8: 2, i32: 6, i64: 7, f16: 10 } as const;
export type DataType = keyof typeof DATA_TYPE;

export type Attribute =
  | { readonly float: number }
  | { readonly int: number }
  | { readonly ints: readonly number[] }
  | { readonly string: string };
export interface Node {
  readonly op: string;
  readonly domain: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

export interface Initializer {
  readonly name: string;
  readonly type: DataType;
  readonly shape: readonly number[];
  readonly data: Uint8Array | { readonly location: string; readonly offset: number; readonly length: number };
}

/** A TensorProto taken over from another model as it is. */
export interface EncodedInitializer {
  readonly name: string;
  readonly encoded: Uint8Array;
}

/** A dimension is a size, or a name for one that is known at run time. */
export interface ValueInfo {
  readonly name: string;
  readonly type: DataType;
  readonly shape: readonly (number | string)[];
}

export interface Graph {
  readonly nodes: readonly Node[];
  readonly initializers: readonly (Initializer | EncodedInitializer)[];
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
}

const IR_VERSION = 10;
const OPSETS: readonly (readonly [string, number])[] = [
  ['', 21],
  ['com.microsoft', 1],
];
/** Named by models that use them: other sessions do not know them. */
const OWN_OPSETS: typeof OPSETS = [['native', 1]];
const ATTRIBUTE_FLOAT = 1;
const ATTRIBUTE_INT = 2;
const ATTRIBUTE_STRING = 3;
const ATTRIBUTE_INTS = 7;
const EXTERNAL = 1;
const EXTERNAL_DATA = 13;

export function encodeModel(graph: Graph): Uint8Array {
  const model = new MessageWriter().varint(1, IR_VERSION).message(7, encodeGraph(graph));
  const domains = new Set(graph.nodes.map(({ domain }) => domain));
  for (const [domain, version] of [...OPSETS, ...OWN_OPSETS.filter(([own]) => domains.has(own))])
    model.message(8, new MessageWriter().string(1, domain).varint(2, version));
  return model.finish();
}

/** The constants of an encoded model. */
export function decodeInitializers(model: Uint8Array): EncodedInitializer[] {
  const found: EncodedInitializer[] = [];
  visitFields(model, (modelField, graph) => {
    if (modelField !== 7) return;
    visitFields(graph, (graphField, tensor) => {
      if (graphField === 5) found.push(decodeInitializer(tensor));
    });
  });
  return found;
}

/** TensorProto.external_data: location, offset, length, and what the runtime noted. Empty where the bytes are inside. */
export function externalData({ encoded }: EncodedInitializer): Map<string, string> {
  const entries = new Map<string, string>();
  visitFields(encoded, (field, entry) => {
    if (field !== EXTERNAL_DATA) return;
    const pair = ['', ''];
    visitFields(entry, (part, text) => (pair[part - 1] = new TextDecoder().decode(text)));
    entries.set(pair[0]!, pair[1]!);
  });
  return entries;
}

export function withExternalData(
  { name, encoded }: EncodedInitializer,
  entries: ReadonlyMap<string, string>,
): EncodedInitializer {
  const message = new MessageWriter();
  for (const [key, value] of entries)
    message.message(EXTERNAL_DATA, new MessageWriter().string(1, key).string(2, value));
  const rest = dropFields(encoded, (field) => field === EXTERNAL_DATA);
  return { name, encoded: Buffer.concat([rest, message.finish()]) };
}

function decodeInitializer(encoded: Uint8Array): EncodedInitializer {
  let name = '';
  visitFields(encoded, (field, value) => field === 8 && (name = new TextDecoder().decode(value)));
  return { name, encoded };
}

function encodeGraph(graph: Graph): MessageWriter {
  const message = new MessageWriter();
  for (const node of graph.nodes) message.message(1, encodeNode(node));
  message.string(2, 'graph');
  for (const initializer of graph.initializers)
    message.bytes(
      5,
      'encoded' in initializer ? initializer.encoded : encodeInitializer(initializer).finish(),
    );
  for (const input of graph.inputs) message.message(11, encodeValueInfo(input));
  for (const output of graph.outputs) message.message(12, encodeValueInfo(output));
  return message;
}

function encodeNode(node: Node): MessageWriter {
  const message = new MessageWriter();
  for (const input of node.inputs) message.string(1, input);
  for (const output of node.outputs) message.string(2, output);
  message.string(3, node.name).string(4, node.op);
  for (const [name, value] of Object.entries(node.attributes))
    message.message(5, encodeAttribute(name, value));
  return message.string(7, node.domain);
}

function encodeAttribute(name: string, value: Attribute): MessageWriter {
  const message = new MessageWriter().string(1, name);
  if ('float' in value) return message.float(2, value.float).varint(20, ATTRIBUTE_FLOAT);
  if ('int' in value) return message.varint(3, value.int).varint(20, ATTRIBUTE_INT);
  if ('string' in value) return message.string(4, value.string).varint(20, ATTRIBUTE_STRING);
  for (const item of value.ints) message.varint(8, item);
  return message.varint(20, ATTRIBUTE_INTS);
}

function encodeInitializer(initializer: Initializer): MessageWriter {
  const message = new MessageWriter();
  for (const dim of initializer.shape) message.varint(1, dim);
  message.varint(2, DATA_TYPE[initializer.type]).string(8, initializer.name);
  const { data } = initializer;
  if (data instanceof Uint8Array) return message.bytes(9, data);
  const entries = { location: data.location, offset: String(data.offset), length: String(data.length) };
  for (const [key, value] of Object.entries(entries))
    message.message(EXTERNAL_DATA, new MessageWriter().string(1, key).string(2, value));
  return message.varint(14, EXTERNAL);
}

function encodeValueInfo(info: ValueInfo): MessageWriter {
  const shape = new MessageWriter();
  for (const dim of info.shape) {
    const dimension = new MessageWriter();
    if (typeof dim === 'string') dimension.string(2, dim);
    else dimension.varint(1, dim);
    shape.message(1, dimension);
  }
  const tensor = new MessageWriter().varint(1, DATA_TYPE[info.type]).message(2, shape);
  return new MessageWriter().string(1, info.name).message(2, new MessageWriter().message(1, tensor));
}
