// A response's body, piece by piece, with a bound on silence. What becomes of the bytes is the caller's business.
import { TransferError, transferError } from './hub-transfer.js';

/** Yields the body's chunks; throws TransferError when the connection breaks or nothing comes for idleMs. */
export async function* bodyChunks(
  response: Response,
  host: string,
  idleMs: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (response.body === null) return;
  const reader: ReadableStreamDefaultReader<Uint8Array> = response.body.getReader();
  let silent = false;
  const timer = setTimeout(() => {
    silent = true;
    void stop(reader);
  }, idleMs);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (silent)
        throw new TransferError(`${host} was silent for ${idleMs / 1000} s`, { unreachable: false });
      if (done) return;
      timer.refresh();
      yield value;
    }
  } catch (error) {
    throw transferError(error, host);
  } finally {
    clearTimeout(timer);
    await stop(reader);
  }
}

/** Gives the connection up; one that is broken already has nothing more to say. */
async function stop(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  await Promise.allSettled([reader.cancel()]);
}
