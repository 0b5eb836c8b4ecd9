// Python's string methods and its way to print values, as chat templates written for jinja2 expect them.
// Plain functions over strings; jinja-interpreter.ts plugs them in where the template engine differs from Python.

/** What Python's str.strip() takes off without an argument. */
const WHITESPACE = '[\\s\\x1c-\\x1f\\x85]';

export type Argument = string | number | null | undefined;
/** What a method may answer; the template engine wraps it again. */
export type MethodResult = string | number | boolean | string[];
type Method = (self: string, args: readonly Argument[]) => MethodResult;

/** Methods that search or cut a string, or that the template engine lacks. */
export const STRING_METHODS: ReadonlyMap<string, Method> = new Map<string, Method>([
  ['strip', (self, [chars]) => stripEnd(stripStart(self, chars), chars)],
  ['lstrip', (self, [chars]) => stripStart(self, chars)],
  ['rstrip', (self, [chars]) => stripEnd(self, chars)],
  ['startswith', (self, options) => options.some((option) => self.startsWith(text(option)))],
  ['endswith', (self, options) => options.some((option) => self.endsWith(text(option)))],
  [
    'removeprefix',
    (self, [prefix]) => (self.startsWith(text(prefix)) ? self.slice(text(prefix).length) : self),
  ],
  [
    'removesuffix',
    (self, [suffix]) =>
      self.endsWith(text(suffix)) ? self.slice(0, self.length - text(suffix).length) : self,
  ],
  ['split', (self, [separator, limit]) => split(self, separator, limit)],
  ['rsplit', (self, [separator, limit]) => rsplit(self, separator, limit)],
  [
    'splitlines',
    (self) =>
      self
        .replace(/\r?\n$|\r$/, '')
        .split(/\r\n|\n|\r/)
        .filter((line, _, all) => all.length > 1 || line !== ''),
  ],
  ['replace', (self, [from, to, count]) => replace(self, text(from), text(to), count)],
  ['find', (self, [part]) => self.indexOf(text(part))],
  ['rfind', (self, [part]) => self.lastIndexOf(text(part))],
  ['count', (self, [part]) => self.split(text(part)).length - 1],
  ['format', (self, args) => format(self, args)],
  ['isdigit', (self) => /^\p{Nd}+$/u.test(self)],
]);

/** repr() of a string: single quotes unless it holds one and no double quote. */
export function reprString(value: string): string {
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const escaped = Array.from(value, escapedCharacter).join('');
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

function escapedCharacter(char: string): string {
  const known = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }[char];
  if (known !== undefined) return known;
  const code = char.charCodeAt(0);
  const printable = (code >= 0x20 && code < 0x7f) || (code > 0xa0 && code !== 0xad);
  return printable ? char : `\\x${code.toString(16).padStart(2, '0')}`;
}

function text(value: Argument): string {
  if (typeof value === 'string') return value;
  throw new Error(`expected a string, got ${value === null || value === undefined ? 'None' : typeof value}`);
}

function stripClass(chars: Argument): string {
  if (chars === null || chars === undefined) return WHITESPACE;
  return text(chars) === '' ? '[]' : `[${text(chars).replace(/[\\\]^-]/g, '\\$&')}]`;
}

function stripStart(self: string, chars: Argument): string {
  return self.replace(new RegExp(`^${stripClass(chars)}+`, 'u'), '');
}

function stripEnd(self: string, chars: Argument): string {
  const one = new RegExp(`^${stripClass(chars)}$`, 'u');
  let end = self.length;
  while (end > 0) {
    const start = end - (end > 1 && self.codePointAt(end - 2)! > 0xffff ? 2 : 1);
    if (!one.test(self.slice(start, end))) break;
    end = start;
  }
  return self.slice(0, end);
}

function limitOf(limit: Argument): number {
  return typeof limit === 'number' && limit >= 0 ? limit : Infinity;
}

function split(self: string, separator: Argument, limit: Argument): string[] {
  const max = limitOf(limit);
  if (separator === null || separator === undefined) return splitWords(self, max);
  if (text(separator) === '') throw new Error('empty separator');
  const parts = self.split(text(separator));
  if (parts.length <= max + 1) return parts;
  return [...parts.slice(0, max), parts.slice(max).join(text(separator))];
}

function splitWords(self: string, max: number): string[] {
  const words: string[] = [];
  let rest = stripStart(self, null);
  while (rest !== '') {
    const end = words.length < max ? rest.search(/\s/) : -1;
    if (end === -1) return [...words, rest];
    words.push(rest.slice(0, end));
    rest = stripStart(rest.slice(end), null);
  }
  return words;
}

function rsplit(self: string, separator: Argument, limit: Argument): string[] {
  const max = limitOf(limit);
  const parts = split(self, separator, null);
  if (parts.length <= max + 1) return parts;
  const cut = parts.length - max;
  return [parts.slice(0, cut).join(text(separator ?? ' ')), ...parts.slice(cut)];
}

function replace(self: string, from: string, to: string, count: Argument): string {
  const max = limitOf(count);
  if (from === '')
    return [
      ...Array.from(self).flatMap((char, i) => (i < max ? [to, char] : [char])),
      self.length < max ? to : '',
    ].join('');
  const parts = split(self, from, max);
  return parts.join(to);
}

function format(self: string, args: readonly Argument[]): string {
  let next = 0;
  return self.replace(/\{\{|\}\}|\{(\d*)\}/g, (found, index: string | undefined) => {
    if (found === '{{' || found === '}}') return found.charAt(0);
    const position = index === undefined || index === '' ? next++ : Number(index);
    if (position >= args.length) throw new Error(`Replacement index ${position} out of range for format()`);
    return String(args[position] ?? 'None');
  });
}
