// The tokenizer of a converted base, from the files in its folder.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TokenizerFiles } from './tokenizer-files.js';
import { createTokenizer } from './tokenizer.js';
import type { TextTokenizer } from './types.js';

/** Throws GatewayError as createTokenizer does. */
export function openTokenizer(folder: string): TextTokenizer {
  return createTokenizer(readTokenizerFiles(folder));
}

/** Files that are missing are empty. */
export function readTokenizerFiles(folder: string): TokenizerFiles {
  const read = (file: string): string | undefined => {
    const path = join(folder, file);
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  };
  const parse = (file: string): object => JSON.parse(read(file) ?? '{}') as object;
  const chatTemplate = read('chat_template.jinja');
  return {
    tokenizerJson: parse('tokenizer.json'),
    tokenizerConfig: parse('tokenizer_config.json'),
    generationConfig: parse('generation_config.json'),
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
  };
}
