// Which token ids begin and end a text, from a checkpoint's JSON files or a GGUF's metadata.

import { Fields } from './fields.js';

export interface SpecialTokens {
  /** Ids that end a turn or a text, each once. */
  readonly eosTokenIds: readonly number[];
  readonly bosTokenId: number | null;
  /** Whether encoding a plain prompt puts BOS in front. */
  readonly addBos: boolean;
}

/** `readJson` gives a parsed file by name, or null. generation_config.json goes before config.json, as in transformers' generate(). */
export function specialTokensOf(readJson: (name: string) => unknown): SpecialTokens {
  const fieldsOf = (name: string) => Fields.ofJson(name, readJson(name) ?? {});
  const generation = fieldsOf('generation_config.json');
  const config = fieldsOf('config.json');
  const eos = generation.tokenIds('eos_token_id');
  const bos = [...generation.tokenIds('bos_token_id'), ...config.tokenIds('bos_token_id')];
  const bosTokenId = bos[0] ?? null;
  const declared = fieldsOf('tokenizer_config.json').get('add_bos_token');
  const addBos =
    typeof declared === 'boolean' ? declared : startsWithBos(fieldsOf('tokenizer.json'), bosTokenId);
  return {
    eosTokenIds: [...new Set(eos.length > 0 ? eos : config.tokenIds('eos_token_id'))],
    bosTokenId,
    addBos: addBos && bosTokenId !== null,
  };
}

/** As llama.cpp reads them: sentencepiece vocabularies and Llama 3's add BOS unless the file says otherwise. */
export function ggufSpecialTokens(metadata: Fields): SpecialTokens {
  const key = (name: string) => `tokenizer.ggml.${name}`;
  const bosTokenId = metadata.tokenIds(key('bos_token_id'))[0] ?? null;
  const addsByDefault =
    metadata.get(key('model')) === 'llama' ||
    ['llama3', 'llama-v3', 'llama-bpe'].includes(metadata.text(key('pre'), ''));
  const ends = [...metadata.tokenIds(key('eos_token_id')), ...metadata.tokenIds(key('eot_token_id'))];
  return {
    eosTokenIds: [...new Set(ends)],
    bosTokenId,
    addBos: metadata.flag(key('add_bos_token'), addsByDefault) && bosTokenId !== null,
  };
}

/** Whether a post-processor of tokenizer.json is a template whose first piece is the BOS token. */
function startsWithBos(tokenizer: Fields, bosTokenId: number | null): boolean {
  const processor = tokenizer.object('post_processor');
  if (processor === null) return false;
  const nested = processor.get('processors');
  const processors = Array.isArray(nested)
    ? nested.map((item) => Fields.ofJson('tokenizer.json: processors', item))
    : [processor];
  return processors.some((template) => {
    const single = template.get('single');
    const first: unknown = Array.isArray(single) ? single[0] : null;
    if (first === null || first === undefined) return false;
    const token = Fields.ofJson('tokenizer.json: single', first).object('SpecialToken');
    if (token === null) return false;
    const special = template.object('special_tokens')?.object(token.text('id'));
    return special !== null && special !== undefined && special.tokenIds('ids')[0] === bosTokenId;
  });
}
