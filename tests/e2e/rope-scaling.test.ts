// A base that is served beyond its window by --rope-scaling: long prompts run, what was trained there serves as it was measured, and an
// adapter of another scaling is refused with the option that serves it.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { join } from 'node:path';
import { openArtifact } from '../../src/model/artifact-reader.js';
import { chosenScaling, type RopeChoice } from '../../src/model/rope-choice.js';
import { createJob, uploadExamples } from '../helpers/training-client.js';
import {
  BASE,
  refusalOf,
  type RunningServer,
  runServer,
  temporaryFolder,
  upload,
} from '../helpers/running-server.js';
import { artifactOf, type ChatRow, type Rows, servedLoss, trainOn } from '../helpers/trained-and-served.js';
import { loraOfRank } from '../../src/train/options.js';

/** The base's window has 256 tokens; these rows are longer, and their answers lie behind it. */
const row = (number: number): ChatRow => ({
  messages: [
    { role: 'user', content: `${'0123456789 '.repeat(26)}${number}?` },
    { role: 'assistant', content: `abc ${number}` },
  ],
});
const rows: Rows<ChatRow> = { training: [10, 11, 12, 13].map(row), heldOut: [14, 15].map(row) };
const CUTOFF = 400;
const folder = temporaryFolder({ after });

/** Trains under the scaling that the server has. */
async function trained(server: RunningServer, choice: RopeChoice) {
  const artifact = artifactOf(server);
  const ropeScaling = chosenScaling(openArtifact(artifact).manifest.architecture, choice);
  const options = {
    method: loraOfRank(8),
    ropeScaling,
    cutoffLength: CUTOFF,
    learningRate: 1e-2,
    epochs: 8,
    batchSize: 2,
  };
  return trainOn(artifact, join(folder, choice.type), rows, options);
}

const plain = await runServer({ after });

for (const type of ['linear', 'dynamic', 'yarn'] as const)
  test(`${type}: what was trained beyond the window serves there as it was measured`, async (t) => {
    const server = await runServer(t, { ropeScaling: `${type}:2`, context: String(CUTOFF) });
    const before = await servedLoss(server, BASE, rows.heldOut);
    const run = await trained(server, { type, factor: 2 });
    const response = await upload(server.url, type, run.files);
    assert.equal(response.status, 201, await response.text());
    const served = await servedLoss(server, type, rows.heldOut);
    assert(Math.abs(served / run.evalLoss - 1) <= 0.01, `served ${served}, trained ${run.evalLoss}`);
    assert(served < 0.95 * before, `${before} before, served ${served}`);

    const refused = await upload(plain.url, type, run.files);
    const { code, param, message } = await refusalOf(refused);
    assert.deepEqual([refused.status, code, param], [400, 'adapter_base_mismatch', 'rope_scaling']);
    assert.match(
      message,
      new RegExp(`scaling ${type}:2, llama-tied is served with none; .* --rope-scaling ${type}:2`),
    );
  });

test('an adapter of the plain window is refused where positions are scaled, and the other way round after a restart', async (t) => {
  const short: Rows<ChatRow> = {
    training: [
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
        ],
      },
    ],
    heldOut: [
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
        ],
      },
    ],
  };
  const run = await trainOn(artifactOf(plain), join(folder, 'plain'), short, {
    method: loraOfRank(8),
    epochs: 1,
  });
  const dataDir = temporaryFolder(t);
  const first = await runServer(t, { dataDir });
  assert.equal((await upload(first.url, 'short', run.files)).status, 201);
  await first.close();
  const scaled = await runServer(t, { dataDir, ropeScaling: 'yarn:2' });
  const answer = scaled.client.completions.create({ model: 'short', prompt: [1, 2], max_tokens: 1 });
  await assert.rejects(
    answer,
    /was trained with the RoPE scaling none, .* served with yarn:2; serve the base without/,
  );
  await scaled.close();
  const again = await runServer(t, { dataDir });
  await again.client.completions.create({ model: 'short', prompt: [1, 2], max_tokens: 1 });
});

test('a job is trained under the scaling that serves; another one is refused with the option to use', async (t) => {
  const server = await runServer(t, { ropeScaling: 'yarn:2', context: String(CUTOFF), trainThreads: '1' });
  const file = await uploadExamples(server.client);
  const job = await createJob(server.client, file, {
    x_graft: { rope_scaling: 'yarn:2', cutoff_len: CUTOFF },
  });
  const { x_graft: chosen } = job as typeof job & { readonly x_graft: { readonly rope_scaling: string } };
  assert.equal(chosen.rope_scaling, 'yarn:2');
  await server.client.fineTuning.jobs.cancel(job.id);
  const other = createJob(server.client, file, { x_graft: { rope_scaling: 'linear:2' } });
  await assert.rejects(other, /x_graft.rope_scaling.*"yarn:2".*--rope-scaling/s);
});

test('beyond what the scaling reaches, the context is refused at start', async (t) => {
  await assert.rejects(runServer(t, { ropeScaling: 'dynamic:2', context: '513' }), /at most 512/);
  await assert.rejects(runServer(t, { context: '257' }), /at most 256.*`rope-scaling` reaches further/);
  await assert.rejects(
    runServer(t, { ropeScaling: 'yarn' }),
    /rope-scaling.*TYPE:FACTOR.*yarn:4.*got `yarn`/,
  );
});
