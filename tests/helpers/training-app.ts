// The HTTP application over fakes with the training service behind it, whose workers run in this process.
import { join } from 'node:path';
import { mkdirSync, writeFileSync } from 'node:fs';
import OpenAI from 'openai';
import { serve } from '../../src/server/index.js';
import { GO } from './fake-training-run.js';
import type { Cleanup } from './running-server.js';
import { testApp, type TestAppOptions } from './server-app.js';
import { testTraining, type TestTrainingOptions } from './training-jobs.js';

export async function trainingApp(
  cleanup: Cleanup,
  options: TestTrainingOptions = {},
  appOptions: TestAppOptions = {},
) {
  const jobs = await testTraining(cleanup, options);
  const { training, adapters } = jobs;
  const app = testApp({ ...appOptions, deps: { training, adapters, ...appOptions.deps } });
  return { ...app, ...jobs, adapters, letGo: (id: string) => letGo(jobs.dataDir, id) };
}

/** Ends the wait of a fake run, whether it has begun or not. */
export function letGo(dataDir: string, jobId: string): void {
  mkdirSync(join(dataDir, 'training', jobId), { recursive: true });
  writeFileSync(join(dataDir, 'training', jobId, GO), '');
}

/** The same on a socket, with OpenAI's own client. */
export async function listeningTrainingApp(
  cleanup: Cleanup,
  options: TestTrainingOptions = {},
  appOptions: TestAppOptions = {},
) {
  const app = await trainingApp(cleanup, options, appOptions);
  const listener = await serve(app.app, { host: '127.0.0.1', port: 0 });
  cleanup.after(async () => {
    await Promise.all([app.training.close(), listener.close()]);
  });
  const client = new OpenAI({ baseURL: `${listener.url}/v1`, apiKey: 'none', maxRetries: 0 });
  return { ...app, listener, client };
}
