// What was trained is what serves, on the default model: the held-out loss that the trainer tells of a LoRA is the
// one that the base gives with it, in 32-bit floats and in 4 bits. Skipped where nothing has the model.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { GatewayError } from '../../src/errors.js';
import { type RunningServer, runServer, temporaryFolder, upload } from '../helpers/running-server.js';
import { artifactOf, type ChatRow, type Rows, servedLoss, trainOn } from '../helpers/trained-and-served.js';
import { loraOfRank } from '../../src/train/options.js';

const NAME = 'SmolLM2-135M-Instruct';

const NAMES = ['Ada', 'Bela', 'Chidi', 'Dmitri', 'Esra', 'Farid', 'Greta', 'Hana'];
const THINGS = ['apples', 'violins', 'tickets', 'stones', 'postcards'];
/** The remark cannot be foretold, so the loss stays well above what 8-bit activations move it by. */
const row = (i: number): ChatRow => {
  const [a, b] = [3 + ((7 * i) % 31), 41 - ((5 * i) % 23)];
  const [name, other, thing] = [NAMES[i % 8], NAMES[(3 * i + 1) % 8], THINGS[(2 * i) % 5]];
  return {
    messages: [
      { role: 'user', content: `${name} has ${a} ${thing} and gets ${b} more. How many is that?` },
      {
        role: 'assistant',
        content: `${other} counted them: <<${a}+${b}=${a + b}>>${a + b} ${thing}, while ${NAMES[(5 * i + 2) % 8]} had ${(i * i) % 17}.\n#### ${a + b}`,
      },
    ],
  };
};
const all = Array.from({ length: 40 }, (_, i) => row(i));
const rows: Rows<ChatRow> = { training: all.slice(0, 24), heldOut: all.slice(24) };

/** In f32 both compute the same; the 4-bit kernels round activations to 8 bits. */
const TOLERANCES = { f32: 0.001, q4: 0.01 };

for (const [weights, tolerance] of Object.entries(TOLERANCES))
  test(`the default model's LoRA serves in ${weights} with the loss that the trainer told of`, async (t) => {
    const flags = { model: undefined, weights, threads: undefined, slots: undefined };
    let server: RunningServer;
    try {
      server = await runServer(t, flags);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== 'download_failed') throw error;
      t.skip(`the model cannot be got: ${error.message}`);
      return;
    }
    const before = await servedLoss(server, NAME, rows.heldOut);
    const run = await trainOn(artifactOf(server), join(temporaryFolder(t), 'run'), rows, {
      method: loraOfRank(8),
      learningRate: 3e-4,
      epochs: 1,
    });
    assert.equal((await upload(server.url, 'sums', run.files)).status, 201);
    const served = await servedLoss(server, 'sums', rows.heldOut);
    t.diagnostic(
      `base ${before.toFixed(4)}, trained ${run.evalLoss.toFixed(4)}, served ${served.toFixed(4)}`,
    );
    assert(Math.abs(served / run.evalLoss - 1) <= tolerance, `served ${served}, trained ${run.evalLoss}`);
    assert(served < 0.95 * before, `${before} before, served ${served}`);
  });
