// A file that a run's events are written to as they come.

import type { TrainingEvent } from '../events.js';

export interface EventLog {
  /** Events that the file has no place for are left out. */
  write(event: TrainingEvent): void;
  close(): void;
}
