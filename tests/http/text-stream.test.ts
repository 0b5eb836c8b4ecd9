// Tokens to text: whatever the split into tokens, the same text; no part of a stop string ever given out.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StopMatcher } from '../../src/server/stop-matcher.js';
import { type ScoredToken, TextStream } from '../../src/server/text-stream.js';
import { ByteTokenizer, bytesOf } from '../helpers/byte-tokenizer.js';

/** Plain version: the stop string that ends first cuts, of several the one that starts first. */
function cutPlainly(text: string, stops: readonly string[]): { text: string; stopped: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (ending.length > 0) {
      return { text: text.slice(0, end - Math.max(...ending.map((stop) => stop.length))), stopped: true };
    }
  }
  return { text, stopped: false };
}

function* splits(text: string): Generator<string[]> {
  for (let mask = 0; mask < 1 << Math.max(0, text.length - 1); mask++) {
    const pieces: string[] = [];
    let start = 0;
    for (let at = 1; at < text.length; at++) {
      if (mask & (1 << (at - 1))) {
        pieces.push(text.slice(start, at));
        start = at;
      }
    }
    yield [...pieces, text.slice(start)];
  }
}

function run(pieces: readonly string[], stops: readonly string[]) {
  const matcher = new StopMatcher(stops);
  const out: string[] = [];
  for (const piece of pieces) if (!matcher.stopped) out.push(matcher.push(piece));
  if (!matcher.stopped) out.push(matcher.flush());
  return { out, stopped: matcher.stopped };
}

describe('StopMatcher', () => {
  const STOP_SETS = [
    [],
    ['b'],
    ['ab'],
    ['aab'],
    ['abab'],
    ['aba', 'bb'],
    ['abba', 'b'],
    ['aaa', 'ba'],
    ['abaab', 'baa', 'bbbb'],
  ];

  test('every text of a and b up to 7 characters, in every split, is cut as the plain version cuts it', () => {
    let numRuns = 0;
    for (let length = 1; length <= 7; length++) {
      for (let code = 0; code < 1 << length; code++) {
        const text = Array.from({ length }, (_, bit) => (code & (1 << bit) ? 'b' : 'a')).join('');
        for (const stops of STOP_SETS) {
          const expected = cutPlainly(text, stops);
          for (const pieces of splits(text)) {
            const { out, stopped } = run(pieces, stops);
            numRuns++;
            if (out.join('') === expected.text && stopped === expected.stopped) continue;
            assert.deepEqual({ pieces, stops, text: out.join(''), stopped }, { pieces, stops, ...expected });
          }
        }
      }
    }
    assert.equal(
      numRuns,
      STOP_SETS.length * Array.from({ length: 7 }, (_, i) => 2 ** (2 * i + 1)).reduce((a, b) => a + b),
    );
  });

  test('what has been given out is always a beginning of the final text', () => {
    for (const pieces of splits('xabyabcz')) {
      const matcher = new StopMatcher(['abc']);
      let out = '';
      for (const piece of pieces) {
        if (matcher.stopped) break;
        out += matcher.push(piece);
        assert.ok('xaby'.startsWith(out), `${pieces.join('|')}: ${out}`);
      }
      assert.equal(out, 'xaby');
    }
  });

  test('text that cannot become a stop string is given out at once', () => {
    const matcher = new StopMatcher(['###', '\nUser:']);
    assert.equal(matcher.push('one #'), 'one ');
    assert.equal(matcher.push(' two\n'), '# two');
    assert.equal(matcher.push('Use'), '');
    assert.equal(matcher.push('ful'), '\nUseful');
    assert.equal(matcher.flush(), '');
  });

  test('without stop strings nothing is held back', () => {
    const matcher = new StopMatcher([]);
    assert.equal(matcher.push('abc'), 'abc');
    assert.equal(matcher.flush(), '');
  });

  test('nothing comes after a stop', () => {
    const matcher = new StopMatcher(['x']);
    assert.equal(matcher.push('ax'), 'a');
    assert.equal(matcher.push('b'), '');
    assert.equal(matcher.flush(), '');
  });
});

describe('TextStream', () => {
  const tokenizer = new ByteTokenizer();

  function collect(text: string, stops: readonly string[] = [], isScored = true) {
    const stream = new TextStream(tokenizer.streamDecoder(), stops);
    const pieces: { text: string; tokens: readonly ScoredToken[] }[] = [];
    for (const token of bytesOf(text)) {
      pieces.push(stream.push(token, isScored ? { token, logprob: -1, top: [] } : null));
      if (stream.stopped) break;
    }
    if (!stream.stopped) pieces.push(stream.finish());
    return { pieces, text: pieces.map((piece) => piece.text).join(''), stopped: stream.stopped };
  }
  const scored = (piece: { tokens: readonly ScoredToken[] }) =>
    piece.tokens.map(({ score, offset }) => [score.token, offset]);

  test('a character is never cut, and its tokens come with it', () => {
    const { pieces } = collect('aé€😀');
    assert.deepEqual(
      pieces.map((piece) => [piece.text, piece.tokens.length]),
      [
        ['a', 1],
        ['', 0],
        ['é', 2],
        ['', 0],
        ['', 0],
        ['€', 3],
        ['', 0],
        ['', 0],
        ['', 0],
        ['😀', 4],
        ['', 0],
      ],
    );
    assert.deepEqual(pieces.flatMap(scored), [
      [0x61, 0],
      [0xc3, 1],
      [0xa9, 1],
      [0xe2, 2],
      [0x82, 2],
      [0xac, 2],
      [0xf0, 3],
      [0x9f, 3],
      [0x98, 3],
      [0x80, 3],
    ]);
  });

  test('tokens of a stop string are reported once, at the end of the text', () => {
    const { pieces, text, stopped } = collect('one END two', ['END']);
    assert.equal(text, 'one ');
    assert.equal(stopped, true);
    assert.deepEqual(pieces.flatMap(scored), [
      [0x6f, 0],
      [0x6e, 1],
      [0x65, 2],
      [0x20, 3],
      [0x45, 4],
      [0x4e, 4],
      [0x44, 4],
    ]);
    assert.deepEqual(scored(pieces.at(-1)!), [
      [0x45, 4],
      [0x4e, 4],
      [0x44, 4],
    ]);
  });

  test('held-back tokens come with the text they begin', () => {
    const { pieces } = collect('aENx', ['END']);
    assert.deepEqual(
      pieces.map((piece) => [piece.text, scored(piece)]),
      [
        ['a', [[0x61, 0]]],
        ['', []],
        ['', []],
        [
          'ENx',
          [
            [0x45, 1],
            [0x4e, 2],
            [0x78, 3],
          ],
        ],
        ['', []],
      ],
    );
  });

  test('an unfinished character at the end becomes U+FFFD, with its tokens', () => {
    const stream = new TextStream(tokenizer.streamDecoder(), []);
    assert.deepEqual(stream.push(0xc3, { token: 0xc3, logprob: -1, top: [] }), { text: '', tokens: [] });
    const last = stream.finish();
    assert.equal(last.text, '\uFFFD');
    assert.deepEqual(scored(last), [[0xc3, 0]]);
  });

  test('a stop string may end with the U+FFFD of an unfinished character', () => {
    const stream = new TextStream(tokenizer.streamDecoder(), ['b\uFFFD']);
    assert.equal(stream.push(0x61, null).text, 'a');
    assert.equal(stream.push(0x62, null).text, '');
    assert.equal(stream.push(0xc3, null).text, '');
    assert.equal(stream.finish().text, '');
    assert.equal(stream.stopped, true);
  });

  test('whatever the stop, every token is reported exactly once and offsets lie inside the text', () => {
    const text = 'naïve 日本 text 😀 end';
    for (const stop of ['日本', '本 t', 'x', '😀', 'nd', 'never', 'end']) {
      const { pieces, text: out, stopped } = collect(text, [stop]);
      const expected = cutPlainly(text, [stop]);
      assert.equal(out, expected.text);
      assert.equal(stopped, expected.stopped);
      const tokens = pieces.flatMap((piece) => [...piece.tokens]);
      const seen = stopped ? expected.text + stop : text;
      assert.deepEqual(
        tokens.map((token) => token.score.token),
        bytesOf(seen),
      );
      assert.ok(tokens.every((token) => token.offset <= out.length));
    }
  });

  test('without scores no token is kept', () => {
    assert.deepEqual(collect('abc', ['c'], false).pieces, [
      { text: 'a', tokens: [] },
      { text: 'b', tokens: [] },
      { text: '', tokens: [] },
    ]);
  });
});
