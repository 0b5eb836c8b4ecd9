// Chat templates are written for Python's jinja2; this is the template engine with the places mended where it differs from that:
// printing (True, None, repr of lists), undefined values in loops and filters, string methods, comparison, output before `continue`.
// Loops are left off now and then: a chat may have very many messages.
// It overrides methods that the engine's types call private; the engine's version is pinned and the golden renders watch over them.

import { Interpreter } from '@huggingface/jinja';
import { type Argument, type MethodResult, STRING_METHODS } from './python-text.js';
import { countWork, runSteps, type Steps, TEXT_PER_STEP } from './steps.js';
import {
  extreme,
  isNumber,
  iterated,
  loopVariable,
  newScope,
  printed,
  repr,
  type Scope,
  type TemplateValue,
  WORK_PER_ITEM,
  wrapped,
} from './template-values.js';

/** A node of a parsed template; `given` holds the value of one that was evaluated before. */
export interface Node {
  readonly type: string;
  readonly given?: TemplateValue;
  readonly value?: unknown;
  readonly operator?: { readonly value: string };
  readonly computed?: boolean;
  readonly argument?: Node | undefined;
  readonly left?: Node;
  readonly right?: Node;
  readonly object?: Node;
  readonly property?: Node;
  readonly callee?: Node;
  readonly iterable?: Node;
  readonly loopvar?: Node;
  readonly lhs?: Node;
  readonly test?: Node;
  readonly body?: readonly Node[];
  readonly alternate?: readonly Node[];
  readonly defaultBlock?: readonly Node[];
}

/** The engine's interpreter with the methods that are overridden here. */
interface OpenInterpreter {
  evaluate(node: Node | undefined, scope: Scope): TemplateValue;
  evaluateBlock(statements: readonly Node[], scope: Scope): TemplateValue;
  evaluateFor(node: Node, scope: Scope): TemplateValue;
  evaluateBinaryExpression(node: Node, scope: Scope): TemplateValue;
  evaluateMemberExpression(node: Node, scope: Scope): TemplateValue;
  applyFilter(operand: TemplateValue, filter: Node, scope: Scope): TemplateValue;
}

/** How the template sees text that is marked against forging special tokens (see protected-text.ts). */
export interface TextMarks {
  isMarked(text: string): boolean;
  mark(text: string): string;
}

/** Statements give no output of their own, or text that is already printed. */
const STATEMENTS = new Set(['Set', 'Macro', 'Comment', 'If', 'For', 'CallStatement', 'FilterStatement']);
/** Filters that take an undefined value as an empty list, and those that take None so as long as nobody reads the result. */
const LIST_FILTERS = new Set(['list', 'join', 'sort', 'items', 'unique', 'reverse', 'dictsort']);
const LAZY_FILTERS = new Set(['selectattr', 'rejectattr', 'select', 'reject', 'map']);
/** Filters that print what they are given before they work on it. */
const TEXT_FILTERS = new Set(['trim', 'upper', 'lower', 'title', 'capitalize', 'replace', 'indent']);

const Engine: new (scope: Scope) => OpenInterpreter = Interpreter;

/** Leaves a loop's body; carries what the body had printed until then. */
class LoopExit extends Error {
  constructor(
    readonly kind: string,
    readonly output: string,
  ) {
    super(`${kind} outside of a loop`);
  }
}

export class JinjaInterpreter extends Engine {
  readonly #marks: TextMarks;
  readonly #isDue = countWork(TEXT_PER_STEP);

  constructor(scope: Scope, marks: TextMarks) {
    super(scope);
    this.#marks = marks;
  }

  override evaluate(node: Node | undefined, scope: Scope): TemplateValue {
    if (node?.given !== undefined) return node.given;
    if (node?.type === 'Break' || node?.type === 'Continue') throw new LoopExit(node.type, '');
    return super.evaluate(node, scope);
  }

  /** What the parsed template prints. */
  renderSteps(program: Node, scope: Scope): Steps<TemplateValue> {
    return this.#blockSteps(program.body ?? [], scope);
  }

  override evaluateBlock(statements: readonly Node[], scope: Scope): TemplateValue {
    return runSteps(this.#blockSteps(statements, scope));
  }

  override evaluateFor(node: Node, scope: Scope): TemplateValue {
    return runSteps(this.#forSteps(node, scope));
  }

  *#blockSteps(statements: readonly Node[], scope: Scope): Steps<TemplateValue> {
    let output = '';
    for (const statement of statements) {
      try {
        const value = yield* this.#statementSteps(statement, scope);
        const silent = STATEMENTS.has(statement.type) && value.type === 'NullValue';
        if (!silent) output += printed(value);
      } catch (error) {
        throw error instanceof LoopExit ? new LoopExit(error.kind, output + error.output) : error;
      }
    }
    return wrapped(output);
  }

  *#statementSteps(node: Node, scope: Scope): Steps<TemplateValue> {
    if (node.type === 'For') return yield* this.#forSteps(node, scope);
    if (node.type !== 'If') return this.evaluate(node, scope);
    const branch = this.#isTrue(node.test, scope) ? node.body : node.alternate;
    return yield* this.#blockSteps(branch ?? [], scope);
  }

  *#forSteps(node: Node, scope: Scope): Steps<TemplateValue> {
    const inner = newScope(scope);
    const items = this.#select(node, inner);
    let output = '';
    for (const [index, item] of items.entries()) {
      inner.setVariable('loop', loopVariable(items, index));
      assign(node.loopvar, item, inner);
      try {
        const text = printed(yield* this.#blockSteps(node.body ?? [], inner));
        output += text;
        if (this.#isDue(WORK_PER_ITEM + text.length)) yield;
      } catch (error) {
        if (!(error instanceof LoopExit)) throw error;
        output += error.output;
        if (error.kind === 'Break') break;
      }
    }
    if (items.length === 0) output += printed(yield* this.#blockSteps(node.defaultBlock ?? [], inner));
    return wrapped(output);
  }

  override evaluateBinaryExpression(node: Node, scope: Scope): TemplateValue {
    const operator = node.operator?.value;
    if (operator === 'and' || operator === 'or') return super.evaluateBinaryExpression(node, scope);
    const left = this.evaluate(node.left, scope);
    const right = this.evaluate(node.right, scope);
    if (operator === '==') return wrapped(this.#equal(left, right));
    if (operator === '!=') return wrapped(!this.#equal(left, right));
    if (operator === '~') return wrapped(printed(left) + printed(right));
    if (operator === 'in' || operator === 'not in') {
      const found = this.#contains(right, left);
      if (found !== undefined) return wrapped(found === (operator === 'in'));
    }
    if (operator === '+' && (left.type === 'StringValue') !== (right.type === 'StringValue'))
      throw new Error(`text can only be added to text, got ${left.type} + ${right.type}`);
    return super.evaluateBinaryExpression({ ...node, left: given(left), right: given(right) }, scope);
  }

  override evaluateMemberExpression(node: Node, scope: Scope): TemplateValue {
    const object = this.evaluate(node.object, scope);
    const text = object.value;
    const method = node.computed === true ? undefined : STRING_METHODS.get(String(node.property?.value));
    if (typeof text !== 'string' || method === undefined)
      return super.evaluateMemberExpression({ ...node, object: given(object) }, scope);
    return wrapped((...args: unknown[]): MethodResult => {
      const plain = plainArguments(args);
      return method(
        text,
        plain.map((arg) => (typeof arg === 'string' ? this.#alike(arg, text) : arg)),
      );
    });
  }

  override applyFilter(operand: TemplateValue, filter: Node, scope: Scope): TemplateValue {
    const name = String((filter.type === 'Identifier' ? filter : filter.callee)?.value);
    if (operand.type === 'UndefinedValue') {
      if (LIST_FILTERS.has(name) || LAZY_FILTERS.has(name))
        return super.applyFilter(wrapped([]), filter, scope);
      if (name === 'length' || name === 'count') return wrapped(0);
      if (name === 'first' || name === 'last') return operand;
    }
    if (operand.type === 'NullValue' && LAZY_FILTERS.has(name)) return wrapped([]);
    if (name === 'string') return wrapped(printed(operand));
    if ((name === 'min' || name === 'max') && Array.isArray(operand.value))
      return extreme(operand.value, name === 'min' ? 1 : -1);
    if (!TEXT_FILTERS.has(name)) return super.applyFilter(operand, filter, scope);
    const text = printed(operand);
    if (name === 'trim' && filter.type === 'Identifier')
      return wrapped(STRING_METHODS.get('strip')?.(text, []));
    return super.applyFilter(wrapped(text), filter, scope);
  }

  /** The items of a for statement, after its `if`. */
  #select(node: Node, scope: Scope): readonly TemplateValue[] {
    const condition = node.iterable?.type === 'SelectExpression' ? node.iterable.test : undefined;
    const source = condition === undefined ? node.iterable : node.iterable?.lhs;
    const items = iterated(this.evaluate(source, scope));
    if (condition === undefined) return items;
    return items.filter((item) => {
      const trial = newScope(scope);
      assign(node.loopvar, item, trial);
      return this.#isTrue(condition, trial);
    });
  }

  /** As the engine's own `not` sees it. */
  #isTrue(condition: Node | undefined, scope: Scope): boolean {
    const negated: Node = { type: 'UnaryExpression', operator: { value: 'not' }, argument: condition };
    return this.evaluate(negated, scope).value === false;
  }

  /** `text` as it would stand in `other`: marked where that one is. */
  #alike(text: string, other: string): string {
    return this.#marks.isMarked(other) && !this.#marks.isMarked(text) ? this.#marks.mark(text) : text;
  }

  #equal(left: TemplateValue, right: TemplateValue): boolean {
    if (isNumber(left) && isNumber(right)) return Number(left.value) === Number(right.value);
    if (typeof left.value === 'string' && typeof right.value === 'string')
      return this.#alike(left.value, right.value) === this.#alike(right.value, left.value);
    if (left.type !== right.type) return false;
    return left.value instanceof Object ? repr(left) === repr(right) : left.value === right.value;
  }

  /** Undefined where the engine shall decide. */
  #contains(container: TemplateValue, item: TemplateValue): boolean | undefined {
    if (Array.isArray(container.value)) return iterated(container).some((other) => this.#equal(item, other));
    if (typeof container.value === 'string' && typeof item.value === 'string')
      return container.value.includes(this.#alike(item.value, container.value));
    return undefined;
  }
}

function given(value: TemplateValue): Node {
  return { type: 'Given', given: value };
}

/** Positional arguments as plain values; a tuple counts as several, keyword arguments follow in their order. */
function plainArguments(args: readonly unknown[]): Argument[] {
  return args.flatMap((arg) => {
    if (arg instanceof Map) return plainArguments(Array.from(arg.values(), ({ value }) => value));
    if (Array.isArray(arg)) return plainArguments(arg.map(({ value }) => value));
    return typeof arg === 'string' || typeof arg === 'number' ? [arg] : [null];
  });
}

/** Binds a loop's variable, or several to the parts of the item. */
function assign(target: Node | undefined, item: TemplateValue, scope: Scope): void {
  if (!Array.isArray(target?.value)) {
    scope.setVariable(String(target?.value), item);
    return;
  }
  const names: readonly Node[] = target.value;
  const parts = iterated(item);
  if (parts.length !== names.length)
    throw new Error(`expected ${names.length} values to unpack, got ${parts.length}`);
  for (const [index, part] of parts.entries()) assign(names[index], part, scope);
}
