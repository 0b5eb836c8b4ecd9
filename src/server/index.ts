// What the composition root takes from the HTTP layer.

export { createApp } from './app.js';
export type {
  AdapterFiles,
  BaseDescription,
  Logger,
  ServerDependencies,
  ServerLimits,
} from './dependencies.js';
export { sampleAdapter } from './training-samples.js';
export { type Listener, type ListenOptions, serve } from './listen.js';
export { addingInTurn, registeringInTurn } from './uploads-in-turn.js';
