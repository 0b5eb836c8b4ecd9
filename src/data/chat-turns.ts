// A conversation as turns of tokens: what the model is given, and what it is to answer. Found by rendering the template up to each answer,
// as it is served, so that a mask follows any template without knowing its marks.
//
//   prompt(i)   = render(messages[0..i), with the generation prompt)
//   rendered(i) = render(messages[0..i])              = prompt(i) + answer(i) + what the template adds behind
//   passage     = prompt(i) + answer(i)               must begin prompt(next); else next begins a passage of its own

import { assert } from '../errors.js';
import type { TextTokenizer } from '../tokenizer/types.js';
import { answerTokens, commonPrefixLength } from './answer-tokens.js';
import type { TrainingMessage } from './types.js';

export interface Turn {
  /** Everything since the turn before, the answer's header at its end. */
  readonly source: readonly number[];
  /** The source's first tokens that an earlier passage has too. */
  readonly numRepeated: number;
  /** The source's last tokens that open the answer. */
  readonly headerLength: () => number;
  readonly target: readonly number[];
  readonly isSupervised: boolean;
}

/** Turns whose tokens follow each other. */
export type Passage = readonly Turn[];

/**
 * One passage where the template only ever adds to what it has rendered. Where it renders a turn otherwise once others follow (Qwen3
 * drops earlier thinking), each later turn is a passage of its own, in the context that it is served in.
 * Throws GatewayError unsupported_model (see answerTokens), invalid_value where the template refuses the messages.
 */
export function chatPassages(messages: readonly TrainingMessage[], tokenizer: TextTokenizer): Passage[] {
  const chat = messages.map(({ role, content }) => ({ role, content }));
  const render = (end: number, addGenerationPrompt: boolean): number[] =>
    tokenizer.encodeChat(chat.slice(0, end), { addGenerationPrompt });
  const passages: Turn[][] = [];
  let sofar: readonly number[] = [];
  for (const [index, { role, weight }] of messages.entries()) {
    if (role !== 'assistant') continue;
    const prompt = render(index, true);
    const target = answerTokens(prompt, render(index + 1, false), tokenizer);
    const shared = commonPrefixLength(sofar, prompt);
    const goesOn = shared === sofar.length;
    const turn = {
      source: goesOn ? prompt.slice(shared) : prompt,
      numRepeated: goesOn ? 0 : shared,
      headerLength: () => prompt.length - commonPrefixLength(prompt, render(index, false)),
      target,
      isSupervised: weight !== 0,
    };
    if (goesOn && passages.length > 0) passages.at(-1)!.push(turn);
    else passages.push([turn]);
    sofar = [...prompt, ...target];
  }
  assert(passages.length > 0, 'a conversation without an answer');
  return passages;
}
