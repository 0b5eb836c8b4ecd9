// `chat`: a conversation in the terminal, streamed from a running server. The history lives here, not in the server.
import { createInterface } from 'node:readline/promises';
import type { ConfigOf } from '../config.js';
import { GatewayError } from '../errors.js';
import { RefusedRequest, type ChatMessage, type ServerClient } from './server-client.js';
import type { Terminal } from './terminal.js';

const HELP = '/reset forgets the conversation, /exit ends, Ctrl-C stops an answer';

/** Until /exit, the end of the input, or Ctrl-C at the prompt. */
export async function chat(
  config: ConfigOf<'chat'>,
  client: ServerClient,
  terminal: Terminal,
): Promise<number> {
  const models = await client.listModels();
  const model = config.chatModel ?? models[0];
  if (model === undefined || !models.includes(model))
    throw new GatewayError(
      'invalid_value',
      `Expected \`model\` to be one of ${models.join(', ')}, got \`${model}\``,
    );
  const conversation = new Conversation(client, model, config.system, terminal);
  const lines = createInterface({
    input: terminal.stdin,
    ...(terminal.stdin.isTTY ? { output: terminal.stdout, prompt: '> ' } : {}),
  });
  const stop = () => {
    if (!conversation.stop()) lines.close();
  };
  let closed = false;
  lines.on('close', () => (closed = true));
  lines.on('SIGINT', stop);
  const release = terminal.onInterrupt(stop);
  terminal.stderr.write(`${model}: ${HELP}\n`);
  try {
    lines.prompt();
    for await (const line of lines) {
      if (line.trim() === '/exit') break;
      await conversation.take(line.trim());
      if (!closed) lines.prompt();
    }
  } finally {
    release();
    lines.close();
  }
  return 0;
}

class Conversation {
  readonly #client: ServerClient;
  readonly #model: string;
  readonly #system: string | null;
  readonly #terminal: Terminal;
  #messages: ChatMessage[] = [];
  #answering: AbortController | null = null;

  constructor(client: ServerClient, model: string, system: string | null, terminal: Terminal) {
    this.#client = client;
    this.#model = model;
    this.#system = system;
    this.#terminal = terminal;
    this.#reset();
  }

  /** One line of the user: a command, or a message that is answered. */
  async take(line: string): Promise<void> {
    if (line === '') return;
    if (line === '/reset') this.#reset();
    else if (line.startsWith('/')) this.#terminal.stderr.write(`${HELP}\n`);
    else await this.#answer(line);
  }

  /** Ends the answer under way; false where there is none. */
  stop(): boolean {
    this.#answering?.abort();
    return this.#answering !== null;
  }

  #reset(): void {
    this.#messages = this.#system === null ? [] : [{ role: 'system', content: this.#system }];
  }

  /** A refused message leaves the history as it was; a stopped answer stays in it as far as it came. */
  async #answer(content: string): Promise<void> {
    const messages: ChatMessage[] = [...this.#messages, { role: 'user', content }];
    this.#answering = new AbortController();
    let text = '';
    try {
      for await (const piece of this.#client.chat(this.#model, messages, this.#answering.signal)) {
        text += piece;
        this.#terminal.stdout.write(piece);
      }
      this.#messages = [...messages, { role: 'assistant', content: text }];
    } catch (error) {
      if (!(error instanceof RefusedRequest || error instanceof GatewayError)) throw error;
      this.#terminal.stderr.write(`${error.message}\n`);
    } finally {
      this.#answering = null;
      this.#terminal.stdout.write('\n');
    }
  }
}
