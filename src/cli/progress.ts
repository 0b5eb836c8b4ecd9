// Progress and log lines on stderr: a bar that redraws itself on a terminal, a line for each tenth elsewhere.
import type { Output } from './terminal.js';

const BAR_WIDTH = 24;
const REDRAW_EVERY_MS = 100;

export interface Ui {
  /** Sizes in bytes; with `facts` they are whatever is counted, and the facts stand beside the bar. */
  progress(label: string, done: number, total: number, facts?: string): void;
  log(line: string): void;
}

export class ProgressUi implements Ui {
  readonly #out: Output;
  readonly #now: () => number;
  #label: string | null = null;
  #tenth = 0;
  #drawnAtMs = 0;
  #startedAtMs = 0;
  #startedAt = 0;
  /** A bar stands on the current line. */
  #open = false;

  constructor(out: Output, now: () => number = () => performance.now()) {
    this.#out = out;
    this.#now = now;
  }

  progress(label: string, done: number, total: number, facts?: string): void {
    if (label !== this.#label) this.#begin(label, done);
    const tenth = total > 0 ? Math.floor((done / total) * 10) : 10;
    if (this.#tenth === 10 && tenth === 10) return;
    if (this.#out.isTTY) this.#draw(label, done, total, tenth, facts);
    else if (tenth > this.#tenth)
      this.#out.write(
        facts === undefined
          ? `${label}: ${tenth * 10} % of ${inMegabytes(total)} MB\n`
          : `${label}: ${done} of ${total} ${facts}\n`,
      );
    this.#tenth = tenth;
  }

  log(line: string): void {
    this.#end();
    this.#out.write(`${line}\n`);
  }

  #begin(label: string, done: number): void {
    this.#end();
    this.#label = label;
    this.#tenth = 0;
    this.#drawnAtMs = -Infinity;
    this.#startedAtMs = this.#now();
    this.#startedAt = done;
  }

  #draw(label: string, done: number, total: number, tenth: number, facts?: string): void {
    const now = this.#now();
    if (tenth < 10 && now - this.#drawnAtMs < REDRAW_EVERY_MS) return;
    this.#drawnAtMs = now;
    const filled = total > 0 ? Math.round((done / total) * BAR_WIDTH) : BAR_WIDTH;
    const bar = '█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled);
    const text =
      facts === undefined
        ? `${bar} ${inMegabytes(done)}/${inMegabytes(total)} MB${this.#rate(done, now)} ${label}`
        : `${bar} ${done}/${total} ${facts}`;
    this.#out.write(`\r\x1b[K${text.slice(0, (this.#out.columns ?? 80) - 1)}`);
    this.#open = true;
    if (tenth === 10) this.#end();
  }

  #rate(done: number, now: number): string {
    const seconds = (now - this.#startedAtMs) / 1000;
    return seconds > 0 ? ` ${inMegabytes((done - this.#startedAt) / seconds)} MB/s` : '';
  }

  /** Leaves the bar's line as it is. */
  #end(): void {
    if (this.#open) this.#out.write('\n');
    this.#open = false;
  }
}

function inMegabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
