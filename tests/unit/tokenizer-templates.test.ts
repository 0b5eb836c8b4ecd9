// Chat templates of real models against what Python's jinja2 makes of them: every render is compared, and those that are known to differ are listed.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { ChatTemplate } from '../../src/tokenizer/chat-template.js';
import { SpecialLiterals } from '../../src/tokenizer/protected-text.js';
import { runSteps } from '../../src/tokenizer/steps.js';
import { type ChatMessage } from '../../src/tokenizer/types.js';
import { sharedData } from '../helpers/tokenizer-fixture.js';

interface Context {
  messages: ChatMessage[];
  add_generation_prompt: boolean;
  bos_token: string;
  eos_token: string;
  [variable: string]: unknown;
}
type Golden = { text: string } | { error: string };

const ALL = [
  'user',
  'user_noprompt',
  'system_user',
  'multi_turn',
  'train_multi_turn',
  'tools',
  'tool_call',
  'no_thinking',
  'starts_with_assistant',
];
const DATED = ALL.filter((context) => !['system_user', 'multi_turn', 'tools'].includes(context));
const KNOWN: readonly { template: string; contexts: readonly string[]; why: string }[] = [
  {
    template: 'ByteDance-Seed-OSS',
    contexts: ALL,
    why: 'a dict with numbers for keys, which the engine refuses',
  },
  {
    template: 'ibm-granite-granite-3.3-2B-Instruct',
    contexts: DATED,
    why: 'the golden clock ignored the format "%B %d, %Y"',
  },
  {
    template: 'meetkai-functionary-medium-v3.1',
    contexts: ['tools', 'tool_call'],
    why: 'jinja2 escapes what is added to a `safe` string',
  },
  {
    template: 'llama-cpp-deepseek-r1',
    contexts: ['tools', 'tool_call'],
    why: 'Python cannot print a generator as JSON; here it is a list',
  },
];

const folder = join(sharedData, 'templates');
const skip = existsSync(join(folder, 'goldens.json')) ? false : `${folder} is not there`;

function render(template: string, context: Context, specials: SpecialLiterals): string {
  const { messages, add_generation_prompt, bos_token, eos_token, ...rest } = context;
  const chat = new ChatTemplate(template, { bos_token, eos_token }, () => new Date(2024, 6, 26, 12));
  const variables = { tools: undefined, documents: undefined, ...rest };
  const rendered = runSteps(
    chat.render(messages, { addGenerationPrompt: add_generation_prompt, variables }, specials),
  );
  return runSteps(rendered.restore(rendered.text));
}

/** The text, or the error of the template's own making. */
function outcome(template: string, context: Context, specials = new SpecialLiterals([])): Golden {
  try {
    return { text: render(template, context, specials) };
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    assert.equal(error.code, 'invalid_value');
    return { error: error.message };
  }
}

function agrees(got: Golden, golden: Golden): boolean {
  if ('text' in golden) return 'text' in got && got.text === golden.text;
  if (!golden.error.startsWith('TemplateError: ')) return 'error' in got;
  return 'error' in got && got.error.endsWith(golden.error.slice('TemplateError: '.length));
}

test('renders equal those of Python', { skip }, () => {
  const {
    contexts,
    goldens,
  }: { contexts: Record<string, Context>; goldens: Record<string, Record<string, Golden>> } = JSON.parse(
    readFileSync(join(folder, 'goldens.json'), 'utf8'),
  );
  const different: string[] = [];
  let renders = 0;
  for (const [path, byContext] of Object.entries(goldens)) {
    if (!existsSync(join(folder, path))) continue;
    const template = readFileSync(join(folder, path), 'utf8');
    for (const [name, golden] of Object.entries(byContext)) {
      renders++;
      const got = outcome(template, contexts[name]!);
      if (!agrees(got, golden)) different.push(`${path.replace(/^.*\/|\.jinja$/g, '')} ${name}`);
    }
  }
  const known = KNOWN.flatMap(({ template, contexts: names }) => names.map((name) => `${template} ${name}`));
  assert.equal(renders, 700);
  assert.deepEqual(different.toSorted(), known.toSorted());
  assert.equal(different.length, 19);
});

test('marks against forged special tokens change no render', { skip }, () => {
  const specials = new SpecialLiterals([
    'Hello',
    'thank you',
    '</think>',
    'get_weather',
    'temp',
    '<b>',
    '2+2',
  ]);
  const { contexts }: { contexts: Record<string, Context> } = JSON.parse(
    readFileSync(join(folder, 'goldens.json'), 'utf8'),
  );
  for (const name of [
    'Qwen-Qwen3-0.6B',
    'Qwen-Qwen2.5-7B-Instruct',
    'meta-llama-Llama-3.2-3B-Instruct',
    'HuggingFaceTB-SmolLM3-3B',
  ]) {
    const template = readFileSync(join(folder, 'llama.cpp', `${name}.jinja`), 'utf8');
    for (const context of Object.values(contexts))
      assert.deepEqual(outcome(template, context, specials), outcome(template, context), name);
  }
});
