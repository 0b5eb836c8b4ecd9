// The slot table against a plain model: after any sequence of operations both ranges are whole, and the moves it asks for keep every
// sequence's rows with it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AssertionError } from '../../src/errors.js';
import { randomStream } from '../../src/engine/random.js';
import { SlotTable } from '../../src/engine/slots.js';

const CAPACITY = 6;

/** Rows hold the name of the sequence whose K/V they are. */
function tableWithRows(capacity: number): { table: SlotTable<string>; rows: string[]; moves: string[] } {
  const rows = Array.from({ length: capacity }, () => '');
  const moves: string[] = [];
  const table = new SlotTable<string>(capacity, {
    move: (from, to) => {
      moves.push(`move ${from} ${to}`);
      rows[to] = rows[from]!;
    },
    swap: (a, b) => {
      moves.push(`swap ${a} ${b}`);
      [rows[a], rows[b]] = [rows[b]!, rows[a]!];
    },
  });
  return { table, rows, moves };
}

for (const seed of [1, 2, 3, 4, 5]) {
  test(`seed ${seed}: random admissions, promotions and releases keep rows and ranges right`, () => {
    const random = randomStream(seed);
    const { table, rows } = tableWithRows(CAPACITY);
    const prefilling = new Set<string>();
    const decoding = new Set<string>();
    const pick = (from: readonly string[]): string => from[Math.floor(random() * from.length)]!;
    const operations = {
      admit: (i: number) => {
        const item = `s${i}`;
        table.admit(item);
        rows[table.slotOf(item)] = item;
        prefilling.add(item);
      },
      promote: () => {
        const item = pick([...prefilling]);
        table.promote(item);
        prefilling.delete(item);
        decoding.add(item);
      },
      release: () => {
        const item = pick([...prefilling, ...decoding]);
        table.release(item);
        prefilling.delete(item);
        decoding.delete(item);
      },
    };
    const seen = new Set<string>();
    for (let i = 0; i < 1000; i++) {
      const possible: (keyof typeof operations)[] = [];
      if (table.canAdmit()) possible.push('admit', 'admit');
      if (prefilling.size > 0) possible.push('promote', 'promote');
      if (prefilling.size + decoding.size > 0) possible.push('release');
      const operation = pick(possible) as keyof typeof operations;
      operations[operation](i);
      seen.add(`${operation} at ${table.size}`);
      assert.deepEqual(new Set(table.decoding), decoding);
      assert.deepEqual(new Set(table.prefilling), prefilling);
      assert.deepEqual(table.all, [...table.decoding, ...table.prefilling]);
      assert.deepEqual(
        rows.slice(0, table.size),
        table.all,
        `operation ${i}, ${operation}: rows follow their sequences`,
      );
      table.all.forEach((item, slot) => assert.equal(table.slotOf(item), slot));
      assert.equal(table.size, prefilling.size + decoding.size);
      assert.equal(table.numDecoding, decoding.size);
      assert.equal(table.canAdmit(), table.size < CAPACITY);
    }
    assert(seen.has(`admit at ${CAPACITY}`) && seen.has('release at 0'), 'both ends were reached');
  });
}

test('promotion in order moves nothing', () => {
  const { table, moves } = tableWithRows(4);
  for (const item of ['a', 'b', 'c']) table.admit(item);
  for (const item of ['a', 'b', 'c']) table.promote(item);
  assert.deepEqual(moves, []);
  assert.deepEqual(table.decoding, ['a', 'b', 'c']);
});

test('a release in the decoding range moves at most two rows', () => {
  const { table, moves } = tableWithRows(5);
  for (const item of ['a', 'b', 'c', 'd', 'e']) table.admit(item);
  for (const item of ['a', 'b', 'c']) table.promote(item);
  table.release('a');
  assert.deepEqual(moves, ['move 2 0', 'move 4 2']);
  assert.deepEqual(
    [table.decoding, table.prefilling],
    [
      ['c', 'b'],
      ['e', 'd'],
    ],
  );
});

test('misuse is refused: no free slot, twice the same, not there, promoted twice', () => {
  const { table } = tableWithRows(2);
  table.admit('a');
  assert.throws(() => table.admit('a'), AssertionError);
  table.admit('b');
  assert.equal(table.canAdmit(), false);
  assert.throws(() => table.admit('c'), AssertionError);
  table.promote('b');
  assert.throws(() => table.promote('b'), AssertionError);
  assert.throws(() => table.release('c'), AssertionError);
  assert.deepEqual(table.all, ['b', 'a']);
});
