// Rows held out and rows drawn: seeded, each row on one side.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joinDatasets, readDataset } from '../../src/data/dataset-reader.js';
import { sampleDataset, splitDataset } from '../../src/data/dataset-split.js';
import { seededRandom, shuffled } from '../../src/data/random.js';

const datasetOf = (count: number, file = 'f') =>
  readDataset(
    Array.from({ length: count }, (_, index) => JSON.stringify({ text: `text ${index}` })).join('\n'),
    file,
  );
const places = ({ rows }: { readonly rows: readonly { readonly place: string }[] }) =>
  rows.map(({ place }) => place);

test('each row is on one side, in the order of the file', () => {
  const dataset = datasetOf(50);
  const { training, validation } = splitDataset(dataset, 0.1, 1);
  assert.deepEqual([training.rows.length, validation.rows.length], [45, 5]);
  const held = new Set(places(validation));
  assert.deepEqual(
    places(training),
    places(dataset).filter((place) => !held.has(place)),
  );
  assert.deepEqual(
    places(validation),
    places(dataset).filter((place) => held.has(place)),
  );
});

test('the seed decides which rows', () => {
  const dataset = datasetOf(50);
  const heldBy = (seed: number) => places(splitDataset(dataset, 0.2, seed).validation);
  assert.deepEqual(heldBy(1), heldBy(1));
  assert.notDeepEqual(heldBy(1), heldBy(2));
  assert.notDeepEqual(heldBy(1), heldBy(1 + 2 ** 32), 'seeds of more than 32 bits count whole');
});

test('at least one row on either side; one row is too few', () => {
  const sizes = (count: number, share: number) => {
    const { training, validation } = splitDataset(datasetOf(count), share, 0);
    return [training.rows.length, validation.rows.length];
  };
  assert.deepEqual(sizes(3, 0.01), [2, 1]);
  assert.deepEqual(sizes(2, 0.99), [1, 1]);
  assert.throws(() => sizes(1, 0.5), /at least 2 rows .* got 1/);
});

test('what was dropped stays with the training rows', () => {
  const rows = [{ text: 'a' }, { text: '' }, { text: 'b' }];
  const dataset = readDataset(JSON.stringify(rows), 'f');
  const { training, validation } = splitDataset(dataset, 0.5, 0);
  assert.deepEqual([training.dropped.length, validation.dropped.length], [1, 0]);
});

test('samples are drawn without repeats; all rows where there are no more', () => {
  const dataset = datasetOf(20);
  const drawn = places(sampleDataset(dataset, 5, 3));
  assert.equal(new Set(drawn).size, 5);
  assert.deepEqual(drawn, places(sampleDataset(dataset, 5, 3)));
  assert.deepEqual(sampleDataset(dataset, 20, 3), dataset);
});

test('joined datasets keep the places of their files', () => {
  assert.deepEqual(places(joinDatasets([datasetOf(1, 'a'), datasetOf(2, 'b')])), [
    'a line 1',
    'b line 1',
    'b line 2',
  ]);
});

test('the generator: the same numbers everywhere, spread evenly, unlike from stream to stream', () => {
  const first = (seed: number, stream: number) => {
    const random = seededRandom(seed, stream);
    return Array.from({ length: 3 }, () => Math.floor(random() * 1000));
  };
  assert.deepEqual(first(42, 0), [601, 353, 995]);
  assert.notDeepEqual(first(42, 0), first(42, 1));
  assert.notDeepEqual(first(42, 0), first(43, 0));
  const random = seededRandom(1, 1);
  const counts = new Array<number>(10).fill(0);
  for (let draw = 0; draw < 10_000; draw++) counts[Math.floor(random() * 10)]!++;
  for (const count of counts) assert(Math.abs(count - 1000) < 150, String(counts));
  const items = [1, 2, 3, 4, 5, 6, 7, 8];
  assert.deepEqual(new Set(shuffled(items, seededRandom(0, 0))), new Set(items));
});
