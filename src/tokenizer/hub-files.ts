// A tokenizer's files as transformers needs them to do what is done here. Files that came from the Hub are kept as they are; those that
// were made from a GGUF's tables lack what transformers does not find out by itself.

import { fieldsOf, namedSpecialTokens, type TokenizerFiles } from './tokenizer-files.js';

export interface HubTokens {
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly addBos: boolean;
}

/** The class that takes tokenizer.json as it is; without a name, transformers guesses one by the model's family, which may change it. */
const PLAIN_CLASS = 'PreTrainedTokenizerFast';

/** Base name -> content. */
export function hubFiles(files: TokenizerFiles, tokens: HubTokens): ReadonlyMap<string, string> {
  const generation = {
    bos_token_id: tokens.bosTokenId ?? undefined,
    eos_token_id: [...tokens.eosTokenIds],
    ...files.generationConfig,
  };
  const config = { tokenizer_class: PLAIN_CLASS, ...files.tokenizerConfig };
  const named = [
    ['tokenizer.json', jsonText(withBos(files, tokens))],
    ['tokenizer_config.json', jsonText(config)],
    ['generation_config.json', jsonText(generation)],
  ] as const;
  const template = files.chatTemplate;
  return new Map(template === undefined ? named : [...named, ['chat_template.jinja', template] as const]);
}

/** The post-processor that puts BOS in front, where the base wants it and the file has none. */
function withBos({ tokenizerJson, tokenizerConfig }: TokenizerFiles, tokens: HubTokens): object {
  const bos = namedSpecialTokens(tokenizerConfig)['bos_token'];
  const present = fieldsOf(tokenizerJson)['post_processor'] ?? null;
  if (!tokens.addBos || tokens.bosTokenId === null || bos === undefined || present !== null)
    return tokenizerJson;
  const special = { SpecialToken: { id: bos, type_id: 0 } };
  const sequence = (id: string, type: number) => ({ Sequence: { id, type_id: type } });
  return {
    ...tokenizerJson,
    post_processor: {
      type: 'TemplateProcessing',
      single: [special, sequence('A', 0)],
      pair: [special, sequence('A', 0), { SpecialToken: { id: bos, type_id: 1 } }, sequence('B', 1)],
      special_tokens: { [bos]: { id: bos, ids: [tokens.bosTokenId], tokens: [bos] } },
    },
  };
}

function jsonText(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
