// Why a run cannot go on: thrown within the trainer, which turns it into the outcome `failed`.

export class RunFailure extends Error {
  override readonly name = 'RunFailure';
  /** non_finite, all_labels_masked. */
  readonly code: string;
  /** The step that failed. */
  readonly step: number;

  constructor(code: string, step: number, message: string) {
    super(message);
    this.code = code;
    this.step = step;
  }
}
