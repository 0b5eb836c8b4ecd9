// Structural cleaning, by the rules of LLaMA-Factory's converters: an optional system message, then user and assistant in turn.
// What does not follow is dropped with a reason, never mended.

import { RowDrop } from './row-faults.js';
import type { ChatExample, PreferenceExample, TrainingMessage } from './types.js';

/** Ends with an answer. Throws RowDrop. */
export function chatExample(messages: readonly TrainingMessage[]): ChatExample {
  return { kind: 'chat', messages: orderedTurns(messages, 'assistant') };
}

/** A prompt that ends with the user's turn, and two answers that differ. Throws RowDrop. */
export function preferenceExample(
  prompt: readonly TrainingMessage[],
  chosen: TrainingMessage,
  rejected: TrainingMessage,
): PreferenceExample {
  for (const [name, { role, content }] of Object.entries({ chosen, rejected })) {
    if (role !== 'assistant') throw new RowDrop('role_order', `the ${name} answer is of the role ${role}`);
    if (isBlank(content)) throw new RowDrop('empty_answer', `the ${name} answer is empty`);
  }
  if (chosen.content === rejected.content)
    throw new RowDrop('same_answers', 'chosen and rejected are the same text');
  return { kind: 'preference', prompt: orderedTurns(prompt, 'user'), chosen: [chosen], rejected: [rejected] };
}

function orderedTurns(messages: readonly TrainingMessage[], last: 'user' | 'assistant'): TrainingMessage[] {
  const [first] = messages;
  const system = first?.role === 'system' ? [first] : [];
  const turns = messages.slice(system.length);
  if (turns.length === 0) throw new RowDrop('no_turns', 'there is no message of a user or assistant');
  for (const [index, { role, content, weight }] of turns.entries()) {
    const expected = index % 2 === 0 ? 'user' : 'assistant';
    const turn = `message ${index + system.length + 1}`;
    if (role !== expected)
      throw new RowDrop('role_order', `${turn} is of the role ${role}, expected ${expected}`);
    if (isBlank(content) && weight !== 0)
      throw new RowDrop(role === 'user' ? 'empty_prompt' : 'empty_answer', `${turn} is empty`);
  }
  if (turns.at(-1)!.role !== last)
    throw new RowDrop('turn_count', `the last message is of the role ${turns.at(-1)!.role}, expected ${last}`);
  return [...system.filter(({ content }) => !isBlank(content)), ...turns];
}

function isBlank(content: string | null): boolean {
  return content === null || content.trim() === '';
}
