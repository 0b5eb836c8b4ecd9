// What a run tells while it goes on: kept with the job, written to the logs, shown in the terminal.

/** Means over the supervised tokens (or pairs) of a step or of the held-out rows. */
export interface PreferenceMetrics {
  readonly rewardsChosen: number;
  readonly rewardsRejected: number;
  readonly rewardsMargins: number;
  readonly rewardsAccuracies: number;
}

export interface StepEvent {
  readonly type: 'step';
  /** From 1. */
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  readonly loss: number;
  readonly learningRate: number;
  /** Before clipping. */
  readonly gradNorm: number;
  /** Supervised tokens of this step. */
  readonly numSupervised: number;
  readonly tokensPerSecond: number;
  readonly elapsedS: number;
  readonly remainingS: number;
  readonly preference: PreferenceMetrics | null;
}

export interface EvalEvent {
  readonly type: 'eval';
  readonly step: number;
  readonly epoch: number;
  readonly loss: number;
  readonly isBest: boolean;
  readonly preference: PreferenceMetrics | null;
}

export interface CheckpointEvent {
  readonly type: 'checkpoint';
  readonly step: number;
  /** Folder of the checkpoint. */
  readonly path: string;
  readonly trainLoss: number;
  readonly evalLoss: number | null;
}

export interface SampleEvent {
  readonly type: 'sample';
  readonly step: number;
  readonly samples: readonly { readonly prompt: string; readonly text: string }[];
}

export interface DiagnosisEvent {
  readonly type: 'diagnosis';
  readonly step: number;
  /** overfitting, underfitting, oscillation, divergence, non_finite, vanishing_gradients, all_labels_masked, eos_not_learned, learning_rate_high, learning_rate_low. */
  readonly fault: string;
  /** What was seen, with the numbers. */
  readonly message: string;
  /** What to change. */
  readonly prescription: string;
}

export interface MessageEvent {
  readonly type: 'message';
  readonly level: 'info' | 'warn' | 'error';
  readonly message: string;
}

export type TrainingEvent =
  StepEvent | EvalEvent | CheckpointEvent | SampleEvent | DiagnosisEvent | MessageEvent;

export type EventSink = (event: TrainingEvent) => void;

/** Why a run ended. */
export type Outcome =
  | {
      readonly kind: 'finished' | 'early_stopped' | 'stopped';
      readonly step: number;
      readonly bestStep: number;
    }
  | { readonly kind: 'failed'; readonly step: number; readonly code: string; readonly message: string };
