// The default model end to end: got, converted and served with no option but where, then asked. Skipped where nothing has the model.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readConfig } from '../../src/cli/read-config.js';
import { GatewayError } from '../../src/errors.js';
import { startServer } from '../../src/main.js';
import { clientOf, temporaryFolder } from '../helpers/running-server.js';

const NAME = 'SmolLM2-135M-Instruct';

test('the default model answers, and a second start gets and converts nothing', async (t) => {
  const dataDir = temporaryFolder(t);
  const config = readConfig('serve', {
    flags: { dataDir, port: '0' },
    env: {},
    file: null,
    cwd: dataDir,
  });
  const progress = new Set<string>();
  const ui = { progress: (label: string) => progress.add(label), log: (line: string) => t.diagnostic(line) };
  let server: Awaited<ReturnType<typeof startServer>>;
  try {
    server = await startServer(config, ui);
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'download_failed') throw error;
    t.skip(`the model cannot be got: ${error.message}`);
    return;
  }
  assert(progress.has(`converting ${NAME}`), [...progress].join());
  await checkAnswers(server.url);
  await server.close();

  progress.clear();
  server = await startServer(config, ui);
  assert.deepEqual([...progress], []);
  await checkAnswers(server.url);
  await server.close();
});

async function checkAnswers(url: string): Promise<void> {
  const client = clientOf(url);
  assert.deepEqual(
    (await client.models.list()).data.map(({ id }) => id),
    [NAME],
  );
  const question = {
    model: NAME,
    messages: [{ role: 'user' as const, content: 'What is the capital of France?' }],
    temperature: 0,
    max_tokens: 32,
  };
  const whole = await client.chat.completions.create(question);
  assert.match(whole.choices[0]!.message.content!, /Paris/);
  let text = '';
  for await (const chunk of await client.chat.completions.create({ ...question, stream: true }))
    text += chunk.choices[0]!.delta.content ?? '';
  assert.equal(text, whole.choices[0]!.message.content);
}
