// A server under load: where it is, and how a request to it says which adapter it wants.
import { GatewayError } from '../../errors.js';
import { NUM_ADAPTERS } from './workload.js';

export interface Target {
  readonly name: string;
  readonly url: string;
  /** Fields of the body that choose an adapter; null is the base. */
  choose(adapter: number | null): Readonly<Record<string, unknown>>;
}

/** A server whose adapters are models of their own. */
export function modelTarget(
  name: string,
  url: string,
  base: string,
  adapterName: (index: number) => string,
): Target {
  return {
    name,
    url,
    choose: (adapter) => ({ model: adapter === null ? base : adapterName(adapter) }),
  };
}

/** llama.cpp's server: adapters 0..7 are loaded there, and each request gives their scales. */
export function loraTarget(name: string, url: string): Target {
  const off = Array.from({ length: NUM_ADAPTERS }, (_, id) => ({ id, scale: 0 }));
  return {
    name,
    url,
    choose: (adapter) => ({
      model: 'base',
      lora: adapter === null ? off : [{ id: adapter, scale: 1 }],
    }),
  };
}

/** NAME=URL. Throws invalid_config. */
export function parsePeer(text: string): { readonly name: string; readonly url: string } {
  const at = text.indexOf('=');
  const [name, url] = [text.slice(0, at), text.slice(at + 1)];
  if (at < 1 || !URL.canParse(url) || new URL(url).protocol !== 'http:')
    throw new GatewayError(
      'invalid_config',
      `Expected \`peer\` to be NAME=URL with an http:// address, got \`${text}\` (flag --peer)`,
      { param: 'peer' },
    );
  return { name, url: url.replace(/\/+$/, '') };
}
