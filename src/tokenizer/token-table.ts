// Which token has which bytes, and which tokens are special. Two kinds of vocabulary: byte-level (GPT-2's alphabet, in which a character stands for
// a byte) and SentencePiece's (text with "▁" for a space, and <0xNN> for single bytes).

import {
  type AddedToken,
  addedTokens,
  type Fields,
  fieldsOf,
  invalidTokenizer,
  isTokenId,
  listOf,
  unsupportedTokenizer,
} from './tokenizer-files.js';

const EMPTY = new Uint8Array();

export class TokenTable {
  /** The highest id plus one. */
  readonly size: number;
  readonly added: readonly AddedToken[];
  /** The special ones that are looked for in text. Of one character there are none: a mark inside the literal could not disarm it. */
  readonly specials: readonly AddedToken[];
  /** Decoding drops one space at the very start. */
  readonly dropsFirstSpace: boolean;
  readonly #contents: readonly (string | undefined)[];
  readonly #vocabulary: Fields;
  readonly #special: ReadonlySet<number>;
  readonly #addedIds: ReadonlyMap<string, number>;
  readonly #pieceBytes: (piece: string) => Uint8Array;

  /** Throws GatewayError invalid_file or unsupported_model. */
  constructor(tokenizerJson: object) {
    const json = fieldsOf(tokenizerJson);
    this.added = addedTokens(tokenizerJson).map((token) => ({
      ...token,
      special: token.special || looksSpecial(token.content),
    }));
    this.#vocabulary = fieldsOf(fieldsOf(json['model'])['vocab']);
    this.#contents = contentsOf(this.#vocabulary, this.added);
    this.size = this.#contents.length;
    this.specials = this.added.filter(({ special, content }) => special && content.length > 1);
    this.#special = new Set(this.added.filter(({ special }) => special).map(({ id }) => id));
    this.#addedIds = new Map(this.added.map(({ content, id }) => [content, id]));
    const decoders = flatten(json['decoder'], 'decoders');
    this.#pieceBytes = pieceReader(decoders);
    this.dropsFirstSpace = decoders.some(dropsSpace);
  }

  idOf(content: string): number | undefined {
    const added = this.#addedIds.get(content);
    if (added !== undefined) return added;
    const id = Object.hasOwn(this.#vocabulary, content) ? this.#vocabulary[content] : undefined;
    return isTokenId(id) ? id : undefined;
  }

  isSpecial(token: number): boolean {
    return this.#special.has(token);
  }

  /** Empty for an id without a token, such as the padding rows of an embedding. */
  bytes(token: number): Uint8Array {
    const content = this.#contents[token];
    if (content === undefined) return EMPTY;
    return this.#addedIds.get(content) === token
      ? new TextEncoder().encode(content)
      : this.#pieceBytes(content);
  }
}

/** The steps of a decoder or pre-tokenizer, with nested sequences opened. */
export function flatten(step: unknown, key: 'decoders' | 'pretokenizers'): Fields[] {
  const fields = fieldsOf(step);
  if (fields['type'] === 'Sequence') return listOf(fields[key]).flatMap((inner) => flatten(inner, key));
  return fields['type'] === undefined ? [] : [fields];
}

/** Some vocabularies do not flag their own control tokens as special (DeepSeek's <｜User｜>). */
function looksSpecial(content: string): boolean {
  return /^<\|.*\|>$|^<｜.*｜>$|^<unused\d+>$|^<pad>$/s.test(content);
}

function contentsOf(vocabulary: Fields, added: readonly AddedToken[]): (string | undefined)[] {
  const ids = Object.keys(vocabulary).length;
  if (ids === 0) throw invalidTokenizer('Expected `model.vocab` to map tokens to ids');
  const contents = Array.from<string | undefined>({ length: ids });
  for (const content of Object.keys(vocabulary)) {
    const id = vocabulary[content];
    if (!isTokenId(id))
      throw invalidTokenizer(
        `Expected the id of ${JSON.stringify(content)} to be a token id, got ${String(id)}`,
      );
    contents[id] = content;
  }
  for (const { id, content } of added) contents[id] = content;
  return contents;
}

function pieceReader(decoders: readonly Fields[]): (piece: string) => Uint8Array {
  const types = decoders.map(({ type }) => String(type));
  if (types.includes('ByteLevel')) return byteLevelReader();
  if (types.includes('ByteFallback') || types.includes('Metaspace')) return sentencePieceBytes;
  throw unsupportedTokenizer(`The tokenizer's decoder (${types.join(', ') || 'none'})`, [
    'ByteLevel',
    'ByteFallback',
    'Metaspace',
  ]);
}

function dropsSpace(decoder: Fields): boolean {
  if (decoder['type'] === 'Metaspace')
    return decoder['prepend_scheme'] !== 'never' && decoder['add_prefix_space'] !== false;
  return decoder['type'] === 'Strip' && decoder['content'] === ' ' && Number(decoder['start']) > 0;
}

/** Printable Latin-1 stands for itself; the other 68 bytes are U+0100 and up in their order. */
function byteLevelReader(): (piece: string) => Uint8Array {
  const byteOf = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    byteOf.set(String.fromCharCode(printable ? byte : next++), byte);
  }
  return (piece) => {
    const bytes = Array.from(piece, (char) => byteOf.get(char));
    return bytes.every((byte) => byte !== undefined)
      ? Uint8Array.from(bytes)
      : new TextEncoder().encode(piece);
  };
}

function sentencePieceBytes(piece: string): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece);
  if (byte) return Uint8Array.of(parseInt(byte[1]!, 16));
  return new TextEncoder().encode(piece.replaceAll('▁', ' '));
}
