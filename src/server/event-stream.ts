// A server-sent event stream that never makes its writer wait: what the client has not taken yet is joined into one
// chunk in memory (bounded by the answer's length) and given out when the client reads again.

export class EventStream {
  readonly body: ReadableStream<Uint8Array>;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #pending = '';
  #closed = false;

  /** @param onCancel the client has gone */
  constructor(onCancel: () => void) {
    this.body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      pull: () => this.#flush(),
      cancel: () => {
        this.#closed = true;
        this.#pending = '';
        onCancel();
      },
    });
  }

  /** @param events whole events, each `data: ...` and an empty line; '' writes nothing */
  write(events: string): void {
    if (this.#closed) return;
    this.#pending += events;
    if ((this.#controller.desiredSize ?? 0) > 0) this.#flush();
  }

  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#controller.close();
  }

  #flush(): void {
    if (this.#pending === '') return;
    const chunk = Buffer.from(this.#pending);
    // Emptied first: enqueue may pull again before it returns.
    this.#pending = '';
    this.#controller.enqueue(chunk);
  }
}

export function event(data: unknown): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

export const DONE_EVENT = 'data: [DONE]\n\n';
