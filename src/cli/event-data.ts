// The `data:` of a server-sent event stream, one event at a time. Other fields are of no interest here.

/** Joins pieces that were cut within a line or within a character. */
export async function* eventData(response: Response): AsyncGenerator<string, void, undefined> {
  if (response.body === null) return;
  let pending = '';
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (pending + text).split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data:')) yield line.slice('data:'.length).trim();
  }
}
