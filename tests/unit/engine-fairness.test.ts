// The tree of virtual token counters on its own: lifting, charging up the tree, and what is forgotten; and the places in a full queue.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FairNode } from '../../src/engine/fairness.js';
import { makesRoom, type QueueHolder } from '../../src/engine/queue-share.js';
import { randomStream } from '../../src/engine/random.js';

test('a counter that comes back is lifted to the least that waits, and keeps what it is ahead', () => {
  const root = new FairNode();
  const a = root.arrive(['a']);
  const b = root.arrive(['b']);
  a.charge(70);
  b.charge(40);
  assert.equal(root.arrive(['new']).tokens, 40);
  const ahead = root.arrive(['ahead']);
  ahead.charge(500);
  ahead.admitted();
  assert.equal(root.arrive(['ahead']).tokens, 540);
});

test('with nothing waiting a counter begins where the last served is now', () => {
  const root = new FairNode();
  assert.equal(root.arrive(['first']).tokens, 0);
  const first = root.next();
  first.admitted();
  first.charge(30);
  assert.equal(root.arrive(['second']).tokens, 30);
});

test('a request that waits already is not lifted again', () => {
  const root = new FairNode();
  const slow = root.arrive(['slow']);
  root.arrive(['fast']).charge(100);
  slow.charge(10);
  assert.equal(root.arrive(['slow']).tokens, 10);
});

test('a charge counts at every level', () => {
  const root = new FairNode();
  const leaf = root.arrive(['tenant', 'id', 'adapter']);
  const sibling = root.arrive(['tenant', 'id', 'other']);
  leaf.charge(25);
  assert.deepEqual([leaf.tokens, sibling.tokens, root.tokens], [25, 0, 25]);
});

test('idle counters are dropped once they would be lifted anyway, and never more than a bound is kept', () => {
  const root = new FairNode();
  root.arrive(['busy']).charge(50);
  const idle = root.arrive(['idle']);
  idle.admitted();
  idle.charge(-20);
  idle.ended();
  assert.equal(root.numChildren, 1);
  for (let i = 0; i < 5000; i++) {
    const once = root.arrive([`once-${i}`]);
    once.admitted();
    once.charge(1000);
    once.ended();
  }
  assert(root.numChildren <= 1025, `${root.numChildren} counters are kept`);
});

function holders(counts: Record<string, number>): QueueHolder[] {
  return Object.entries(counts).flatMap(([name, count]) => {
    const [tenant, id] = name.split('/');
    return Array.from({ length: count }, () => ({ tenant: tenant!, fairnessId: id ?? null }));
  });
}

const arriving = (tenant: string, fairnessId: string | null = null): QueueHolder => ({ tenant, fairnessId });

test('the newest request of who holds most makes room for who holds less', () => {
  const waiting = holders({ a: 6, b: 2 });
  assert.equal(makesRoom(waiting, arriving('c')), waiting[5]);
  assert.equal(makesRoom(waiting, arriving('b')), waiting[5]);
  assert.equal(makesRoom(waiting, arriving('a')), null);
  assert.equal(makesRoom(holders({ a: 3, b: 2 }), arriving('b')), null, 'a change of places helps nobody');
  assert.equal(makesRoom(holders({ a: 1 }), arriving('b')), null);
  assert.equal(makesRoom([], arriving('a')), null, 'a queue of no places');
});

test('within a tenant the same holds for its fairness ids, and they do not count against other tenants', () => {
  const waiting = holders({ 'a/x': 5, 'a/y': 1, b: 5 });
  assert.equal(makesRoom(waiting, arriving('a', 'z')), waiting[4]);
  assert.equal(makesRoom(waiting, arriving('a', 'x')), null);
  assert.equal(
    makesRoom(waiting, arriving('c')),
    waiting[4],
    'of the tenant that holds most, its fullest id',
  );
  const many = holders({ 'a/1': 1, 'a/2': 1, 'a/3': 1, 'a/4': 1, 'a/5': 1, b: 3 });
  assert.equal(makesRoom(many, arriving('b'))?.tenant, 'a', 'five ids are one tenant');
});

test('random queues: a tenant below its equal share of the places is never refused, and none loses below it', () => {
  const random = randomStream(5);
  const below = (n: number): number => Math.floor(random() * n);
  let numDisplaced = 0;
  for (let round = 0; round < 50; round++) {
    const places = 4 + below(20);
    let waiting: QueueHolder[] = [];
    for (let i = 0; i < 200; i++) {
      const next = arriving(`t${below(1 + below(6))}`, `f${below(3)}`);
      const count = (tenant: string): number => waiting.filter((one) => one.tenant === tenant).length;
      const numTenants = new Set([...waiting.map(({ tenant }) => tenant), next.tenant]).size;
      const share = Math.floor(places / numTenants);
      if (waiting.length === places) {
        const loser = makesRoom(waiting, next);
        if (loser === null) assert(count(next.tenant) >= share, `${next.tenant} was refused below its share`);
        else if (loser.tenant !== next.tenant) {
          numDisplaced++;
          assert(count(loser.tenant) > share, `${loser.tenant} lost a place of its share`);
        }
        if (loser === null) continue;
        waiting = waiting.filter((one) => one !== loser);
      }
      waiting.push(next);
      if (below(5) === 0) waiting.splice(below(waiting.length), 1);
    }
  }
  assert(numDisplaced > 100);
});
