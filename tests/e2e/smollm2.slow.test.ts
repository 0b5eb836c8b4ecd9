// The default model end to end: got, converted and served with no option but where, then asked. Skipped where nothing has the model.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { runServer, temporaryFolder, type RunningServer } from '../helpers/running-server.js';

const NAME = 'SmolLM2-135M-Instruct';

test('the default model answers, and a second start gets and converts nothing', async (t) => {
  const dataDir = temporaryFolder(t);
  // What serve does without these flags: the tiny base is the helper's default, not the product's.
  const flags = { dataDir, model: undefined, weights: undefined, threads: undefined, slots: undefined };
  let first: RunningServer;
  try {
    first = await runServer(t, flags);
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'download_failed') throw error;
    t.skip(`the model cannot be got: ${error.message}`);
    return;
  }
  assert(first.progress.has(`converting ${NAME}`), [...first.progress].join());
  await checkAnswers(first);
  await first.close();

  const second = await runServer(t, flags);
  assert.deepEqual([...second.progress], []);
  await checkAnswers(second);
  await second.close();
});

async function checkAnswers({ client }: RunningServer): Promise<void> {
  assert.deepEqual(
    (await client.models.list()).data.map(({ id }) => id),
    [NAME],
  );
  const question = {
    model: NAME,
    messages: [{ role: 'user' as const, content: 'What is 2+2?' }],
    temperature: 0,
    max_tokens: 32,
  };
  const whole = await client.chat.completions.create(question);
  assert.match(whole.choices[0]!.message.content!, /\b4\b/);
  let text = '';
  for await (const chunk of await client.chat.completions.create({ ...question, stream: true }))
    text += chunk.choices[0]!.delta.content ?? '';
  assert.equal(text, whole.choices[0]!.message.content);
}
