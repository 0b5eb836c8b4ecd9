// JSON.parse that refuses a repeated key in any object, which JSON.parse resolves silently in favour of the last one.

/** Parses the text. Throws SyntaxError where it is not JSON or where an object has the same key twice. */
export function parseStrictJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  refuseRepeatedKeys(text);
  return value;
}

/** Walks a text that is known to be valid JSON: a string before a colon is a key of the innermost open object. */
function refuseRepeatedKeys(text: string): void {
  const open: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '{') open.push(new Set());
    else if (char === '}') open.pop();
    else if (char === '"') {
      const end = closingQuote(text, at);
      if (isColonNext(text, end + 1)) {
        const key = String(JSON.parse(text.slice(at, end + 1)));
        const keys = open.at(-1)!;
        if (keys.has(key)) throw new SyntaxError(`the key ${JSON.stringify(key)} is there twice`);
        keys.add(key);
      }
      at = end;
    }
  }
}

function closingQuote(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at;
}

function isColonNext(text: string, start: number): boolean {
  let at = start;
  while (text.charCodeAt(at) <= 0x20) at++;
  return text[at] === ':';
}
