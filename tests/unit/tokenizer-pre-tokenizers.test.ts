// How the pre-tokenizers of GGUF files cut text, against Hugging Face's Python package (tests/golden/make-pre-tokenizer-splits.py).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { tokenizerFilesFromGguf } from '../../src/tokenizer/gguf-tokenizer.js';
import { createTokenizer } from '../../src/tokenizer/tokenizer.js';
import { fieldsOf } from '../../src/tokenizer/tokenizer-files.js';
import type { TextTokenizer } from '../../src/tokenizer/types.js';

interface Golden {
  readonly texts: readonly string[];
  /** Of each pre-tokenizer, for each text: its pieces with "|" between them. */
  readonly pieces: Readonly<Record<string, readonly string[]>>;
}

const path = join(import.meta.dirname, '..', 'golden', 'pre-tokenizer-splits.json');
const golden: Golden = JSON.parse(readFileSync(path, 'utf8'));

/** GPT-2's character for each byte: printable Latin-1 stands for itself, the rest are U+0100 and up in their order. */
function byteAlphabet(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(isPrintable ? byte : next++);
  });
}

/** A tokenizer with the given pieces and all bytes as tokens, that takes a piece as a whole or byte by byte: ids show the cuts. */
function tokenizerOf(pre: string, pieces: ReadonlySet<string>): TextTokenizer {
  const alphabet = byteAlphabet();
  const spelled = [...pieces].map((piece) =>
    Array.from(new TextEncoder().encode(piece), (byte) => alphabet[byte]).join(''),
  );
  const metadata = {
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': pre,
    'tokenizer.ggml.tokens': [...new Set([...alphabet, ...spelled])],
    'tokenizer.ggml.merges': [],
    'tokenizer.ggml.add_bos_token': false,
  };
  const files = tokenizerFilesFromGguf(new Map<string, unknown>(Object.entries(metadata)));
  const json = fieldsOf(files.tokenizerJson);
  const model = { ...fieldsOf(json['model']), ignore_merges: true };
  return createTokenizer({ ...files, tokenizerJson: { ...json, model } });
}

for (const [pre, expected] of Object.entries(golden.pieces))
  test(`${pre} cuts every text as the original does`, () => {
    assert.equal(expected.length, golden.texts.length);
    const tokenizer = tokenizerOf(pre, new Set(expected.flatMap((line) => line.split('|'))));
    for (const [index, text] of golden.texts.entries()) {
      const cut = tokenizer.encode(text).map((id) => Buffer.from(tokenizer.tokenBytes(id)).toString());
      assert.deepEqual(
        cut,
        expected[index]!.split('|'),
        `${JSON.stringify(text)}; made by tests/golden/make-pre-tokenizer-splits.py`,
      );
    }
  });

test('the texts tell the pre-tokenizers apart', () => {
  const lists = Object.values(golden.pieces).map((lines) => lines.join('\n'));
  assert.equal(lists.length, 6);
  assert.equal(new Set(lists).size, 6);
});
