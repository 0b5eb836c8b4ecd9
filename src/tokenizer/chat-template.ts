// Renders a chat template over messages, with the names that Python's transformers gives to templates.
// Text only: protected-text.ts keeps the messages' special tokens apart, tokenizer.ts encodes the result.

import { createHash } from 'node:crypto';
import { parse, tokenize } from '@huggingface/jinja';
import { GatewayError } from '../errors.js';
import { strftime } from './clock-text.js';
import { JinjaInterpreter, type Node } from './jinja-interpreter.js';
import { type SpecialLiterals } from './protected-text.js';
import { runSteps, type Steps } from './steps.js';
import { newScope, wrappedList } from './template-values.js';
import { fieldsOf } from './tokenizer-files.js';
import { type ChatMessage } from './types.js';

const MAX_RANGE = 100_000;

export interface RenderOptions {
  readonly addGenerationPrompt: boolean;
  readonly variables: Readonly<Record<string, unknown>>;
}

export interface RenderedChat {
  /** The prompt, marked where a message holds a special token's literal. */
  readonly text: string;
  restore(text: string): Steps<string>;
}

/** The template asked for this error through raise_exception(). */
class TemplateRefusal extends Error {}

export class ChatTemplate {
  /** sha256 of the template's text. */
  readonly hash: string;
  readonly #source: string;
  readonly #program: Node;
  readonly #specialTokens: Readonly<Record<string, string>>;
  readonly #now: () => Date;

  /**
   * `specialTokens`: the variables bos_token, eos_token ... `now` feeds strftime_now().
   * Throws GatewayError invalid_file where the template cannot be parsed.
   */
  constructor(source: string, specialTokens: Readonly<Record<string, string>>, now: () => Date) {
    this.hash = createHash('sha256').update(source).digest('hex');
    this.#source = source;
    this.#specialTokens = specialTokens;
    this.#now = now;
    try {
      this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (error) {
      throw new GatewayError(
        'invalid_file',
        `The base's chat template cannot be parsed: ${messageOf(error)}`,
        {
          param: 'chat_template',
          cause: error,
        },
      );
    }
  }

  /** Throws GatewayError invalid_value where the template refuses the messages or cannot work with them. */
  *render(
    messages: readonly ChatMessage[],
    options: RenderOptions,
    specials: SpecialLiterals,
  ): Steps<RenderedChat> {
    const marks = yield* specials.protect(this.#source, [messages, options.variables]);
    try {
      const scope = newScope();
      const given = yield* marks.markAll(options.variables);
      for (const [name, value] of this.#variables(options.addGenerationPrompt, given)) scope.set(name, value);
      scope.setVariable('messages', yield* wrappedList(yield* marks.markAll(messages)));
      const interpreter = new JinjaInterpreter(scope, marks);
      const text = String((yield* interpreter.renderSteps(this.#program, scope)).value);
      return { text, restore: (part) => marks.restore(part) };
    } catch (error) {
      throw renderError(error, runSteps(marks.restore(messageOf(error))));
    }
  }

  #variables(addGenerationPrompt: boolean, variables: unknown): ReadonlyMap<string, unknown> {
    return new Map(
      Object.entries({
        true: true,
        false: false,
        none: null,
        True: true,
        False: false,
        None: null,
        range,
        raise_exception: (message: unknown) => {
          throw new TemplateRefusal(String(message));
        },
        strftime_now: (format: unknown) => strftime(this.#now(), String(format)),
        ...this.#specialTokens,
        tools: null,
        documents: null,
        ...fieldsOf(variables),
        add_generation_prompt: addGenerationPrompt,
      }),
    );
  }
}

function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_RANGE)) throw new Error(`range() of ${length} items, more than ${MAX_RANGE}`);
  return Array.from({ length }, (_, index) => start + index * step);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function renderError(error: unknown, message: string): GatewayError {
  const text =
    error instanceof TemplateRefusal
      ? `The base's chat template refuses these messages: ${message}`
      : `The base's chat template cannot render these messages: ${message}. Check roles and contents`;
  return new GatewayError('invalid_value', text, { param: 'messages', cause: error });
}
