// The template language where the engine alone would differ from Python's jinja2. The expected prints are those of jinja2 3.1.6.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatTemplate } from '../../src/tokenizer/chat-template.js';
import { strftime } from '../../src/tokenizer/clock-text.js';
import { SpecialLiterals } from '../../src/tokenizer/protected-text.js';
import { runSteps } from '../../src/tokenizer/steps.js';

const NOW = new Date(2024, 6, 6, 9, 5, 3);

function render(template: string, variables: Record<string, unknown> = {}): string {
  const chat = new ChatTemplate(template, {}, () => NOW);
  return runSteps(chat.render([], { addGenerationPrompt: false, variables }, new SpecialLiterals([]))).text;
}

function check(
  cases: readonly (readonly [template: string, expected: string])[],
  variables?: Record<string, unknown>,
) {
  for (const [template, expected] of cases) assert.equal(render(template, variables), expected, template);
}

test('values print as in Python', () => {
  check([
    ['{{ true }} {{ none }} {{ missing }}|', 'True None |'],
    ['{{ [1, 1.5, "a", none] }}', "[1, 1.5, 'a', None]"],
    ['{{ (1, "a") }}', "(1, 'a')"],
    ['{{ {"k": "it\'s"} }}', "{'k': \"it's\"}"],
    ['{{ "a" ~ 1 ~ true }}', 'a1True'],
    ['{{ ["\\n"] }}', "['\\n']"],
    ['{{ {"a": [1]} | string }}', "{'a': [1]}"],
    ['{{ {"é": 1} | tojson }}', '{"é": 1}'],
    ['{% set x = none %}{% if true %}{% endif %}|', '|'],
  ]);
});

test('undefined values are empty in loops and filters', () => {
  check([
    ['{% for x in missing %}{{ x }}{% else %}none{% endfor %}', 'none'],
    ['{{ missing | length }}{{ missing | trim }}{{ missing | list }}', '0[]'],
    ['{{ missing | default("d") }}', 'd'],
    ['{{ missing is defined }}{{ missing == none }}', 'FalseFalse'],
  ]);
  assert.throws(() => render('{% for x in none %}{% endfor %}'), /None is not iterable/);
});

test('loops keep what was printed before continue and break', () => {
  check([
    ['{% for i in range(4) %}{{ i }}{% if i == 1 %}{% continue %}{% endif %},{% endfor %}', '0,12,3,'],
    ['{% for i in range(4) %}{{ i }}{% if i == 1 %}{% break %}{% endif %},{% endfor %}', '0,1'],
    [
      '{% for i in [3, 4, 5] if i > 3 %}{{ loop.index }}{{ loop.last }}{{ i }} {% endfor %}',
      '1False4 2True5 ',
    ],
    ['{% for a, b in [("x", 1)] %}{{ a }}{{ b }}{% endfor %}', 'x1'],
    ['{% for k, v in {"a": 1}.items() %}{{ k }}{{ v }}{% endfor %}', 'a1'],
    ['{% for c in "hé😀" %}{{ c }}.{% endfor %}', 'h.é.😀.'],
    [
      '{% for i in range(2) %}{% for j in range(2) %}{% if j %}{% break %}{% endif %}{{ i }}{% endfor %}{% endfor %}',
      '01',
    ],
    ['{% for i in [1, 2] %}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}', '2;1;'],
  ]);
});

test('comparison and containment', () => {
  check([
    [
      '{{ 1 == 1.0 }}{{ "1" == 1 }}{{ [1] == [1] }}{{ {} == {} }}{{ none == false }}',
      'TrueFalseTrueTrueFalse',
    ],
    [
      '{{ none in ["a", none] }}{{ [1] in [[1]] }}{{ "a" not in "b" }}{{ "k" in {"k": 1} }}',
      'TrueTrueTrueTrue',
    ],
    ['{{ [3, 1] | min }}{{ [3, 1] | max }}', '13'],
  ]);
  assert.throws(() => render('{{ "a" + [1] }}'), /StringValue \+ ArrayValue/);
  assert.throws(() => render('{{ 1 + "a" }}'), /IntegerValue \+ StringValue/);
});

test('string methods', () => {
  check([
    ['{{ "xxaxx".strip("x") }}{{ "\\n a\\n".lstrip("\\n") }}|{{ "a. ".rstrip(" .") }}', 'a a\n|a'],
    ['{{ "]a-^".strip("]-^") }}', 'a'],
    ['{{ "😀a😀b😀😀".rstrip("😀") }}|{{ "😀".strip("😀") }}|{{ "é ".rstrip() }}', '😀a😀b||é'],
    [
      '{{ "a b  c".split() }}{{ "a,b,c".split(",", 1) }}{{ " a b ".split(none, 1) }}',
      "['a', 'b', 'c']['a', 'b,c']['a', 'b ']",
    ],
    ['{{ "a,b,c".rsplit(",", 1) }}{{ "a,b,c".split(sep=",", maxsplit=1) }}', "['a,b', 'c']['a', 'b,c']"],
    ['{{ "ab".startswith(("x", "a")) }}{{ "ab".endswith("x") }}', 'TrueFalse'],
    ['{{ "aaa".replace("a", "b", 2) }}{{ "ab".replace("", "-") }}', 'bba-a-b-'],
    ['{{ "<{}>{{x}}{}".format("a", 2) }}{{ "{1}{0}".format("a", "b") }}', '<a>{x}2ba'],
    ['{{ "abab".find("b") }}{{ "abab".rfind("b") }}{{ "abab".count("ab") }}{{ "ab".find("z") }}', '132-1'],
    ['{{ "a\\nb\\n".splitlines() }}{{ "ab".removeprefix("a") }}{{ "ab".removesuffix("b") }}', "['a', 'b']ba"],
    ['{{ "aB".upper() }}{{ "12".isdigit() }}{{ " a " | trim }}', 'ABTruea'],
  ]);
  assert.throws(() => render('{{ "a".split("") }}'), /empty separator/);
});

test('dates', () => {
  check([['{{ strftime_now("%d %b %Y") }}', '06 Jul 2024']]);
  assert.equal(
    strftime(NOW, '%Y-%m-%d %H:%M:%S %y %B %-d %A %a %I%p %% %Q'),
    '2024-07-06 09:05:03 24 July 6 Saturday Sat 09AM % %Q',
  );
});

test('a range is bounded', () => {
  check([['{{ range(3) }}{{ range(1, 6, 2) }}{{ range(3, 0, -1) }}', '[0, 1, 2][1, 3, 5][3, 2, 1]']]);
  assert.throws(() => render('{% for i in range(1000000) %}{% endfor %}'), /range\(\) of 1000000 items/);
});
