// Which token has which bytes, and which tokens are special. Two kinds of vocabulary: byte-level (GPT-2's alphabet, in which a character stands for
// a byte) and SentencePiece's (text with "▁" for a space, and <0xNN> for single bytes).

import { BYTE_LEVEL_TOKENS } from './byte-level.js';
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
const BYTES = Array.from({ length: 256 }, (_, byte) => byte);

export class TokenTable {
  /** The highest id plus one. */
  readonly size: number;
  readonly added: readonly AddedToken[];
  /** The special ones that are looked for in text. Of one character there are none: a mark inside the literal could not disarm it. */
  readonly specials: readonly AddedToken[];
  /** Decoding drops one space at the very start. */
  readonly dropsFirstSpace: boolean;
  /** Characters of the longest token. */
  readonly longest: number;
  /** The bytes that have no token of their own. */
  readonly missingBytes: readonly number[];
  readonly #contents: readonly (string | undefined)[];
  /** Added tokens come before those of the vocabulary. */
  readonly #ids: ReadonlyMap<string, number>;
  readonly #special: ReadonlySet<number>;
  readonly #addedIds: ReadonlySet<number>;
  readonly #pieceBytes: (token: string) => Uint8Array;

  /** Throws GatewayError invalid_file or unsupported_model. */
  constructor(tokenizerJson: object) {
    const json = fieldsOf(tokenizerJson);
    this.added = addedTokens(tokenizerJson).map((token) => ({
      ...token,
      special: token.special || looksSpecial(token.content),
    }));
    const { ids, contents } = readVocabulary(fieldsOf(fieldsOf(json['model'])['vocab']), this.added);
    this.#ids = ids;
    this.#contents = contents;
    this.size = contents.length;
    this.longest = contents.reduce((longest, content = '') => Math.max(longest, content.length), 0);
    this.specials = this.added.filter(({ special, content }) => special && content.length > 1);
    this.#special = new Set(this.added.filter(({ special }) => special).map(({ id }) => id));
    this.#addedIds = new Set(this.added.map(({ id }) => id));
    const decoders = flatten(json['decoder'], 'decoders');
    const { byteTokens, bytesOf } = alphabetOf(decoders);
    this.missingBytes = BYTES.filter((byte) => !ids.has(byteTokens[byte]!));
    this.#pieceBytes = bytesOf;
    this.dropsFirstSpace = decoders.some(dropsSpace);
  }

  idOf(content: string): number | undefined {
    return this.#ids.get(content);
  }

  isSpecial(token: number): boolean {
    return this.#special.has(token);
  }

  /** Empty for an id without a token, such as the padding rows of an embedding. */
  bytes(token: number): Uint8Array {
    const content = this.#contents[token];
    if (content === undefined) return EMPTY;
    return this.#addedIds.has(token) ? new TextEncoder().encode(content) : this.#pieceBytes(content);
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

function readVocabulary(
  vocabulary: Fields,
  added: readonly AddedToken[],
): { readonly ids: ReadonlyMap<string, number>; readonly contents: readonly (string | undefined)[] } {
  const tokens = Object.keys(vocabulary);
  if (tokens.length === 0) throw invalidTokenizer('Expected `model.vocab` to map tokens to ids');
  const ids = new Map<string, number>();
  const contents = Array.from<string | undefined>({ length: tokens.length });
  for (const content of tokens) {
    const id = vocabulary[content];
    if (!isTokenId(id))
      throw invalidTokenizer(
        `Expected the id of ${JSON.stringify(content)} to be a token id, got ${String(id)}`,
      );
    ids.set(content, id);
    contents[id] = content;
  }
  for (const { id, content } of added) {
    ids.set(content, id);
    contents[id] = content;
  }
  return { ids, contents };
}

/** How tokens spell bytes. */
interface Alphabet {
  /** The token of each byte. */
  readonly byteTokens: readonly string[];
  readonly bytesOf: (token: string) => Uint8Array;
}

function alphabetOf(decoders: readonly Fields[]): Alphabet {
  const types = decoders.map(({ type }) => String(type));
  if (types.includes('ByteLevel')) return byteLevelAlphabet();
  if (types.includes('ByteFallback') || types.includes('Metaspace'))
    return { byteTokens: BYTES.map(byteToken), bytesOf: sentencePieceBytes };
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

function byteLevelAlphabet(): Alphabet {
  const byteOf = new Map(BYTE_LEVEL_TOKENS.map((token, byte) => [token, byte]));
  return {
    byteTokens: BYTE_LEVEL_TOKENS,
    bytesOf: (token) => {
      const bytes = Array.from(token, (char) => byteOf.get(char));
      return bytes.every((byte) => byte !== undefined)
        ? Uint8Array.from(bytes)
        : new TextEncoder().encode(token);
    },
  };
}

/** SentencePiece's token for a byte. */
export function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}

function sentencePieceBytes(piece: string): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece);
  if (byte) return Uint8Array.of(parseInt(byte[1]!, 16));
  return new TextEncoder().encode(piece.replaceAll('▁', ' '));
}
