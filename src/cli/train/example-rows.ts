// Examples as rows of JSONL in the forms that are told by their keys: what a run is given, whatever form the data came in.
import type { Example, TrainingMessage } from '../../data/types.js';

export function exampleRows(examples: readonly Example[]): string {
  return examples.map((example) => `${JSON.stringify(rowOf(example))}\n`).join('');
}

function rowOf(example: Example): object {
  switch (example.kind) {
    case 'chat':
      return { messages: example.messages.map(messageOf) };
    case 'preference':
      return {
        input: { messages: example.prompt.map(messageOf) },
        preferred_output: example.chosen.map(messageOf),
        non_preferred_output: example.rejected.map(messageOf),
      };
    case 'text':
      return { text: example.text };
  }
}

function messageOf({ role, content, weight }: TrainingMessage): object {
  return { role, content, ...(weight === undefined ? {} : { weight }) };
}
