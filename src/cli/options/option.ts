// What one option is: its kind, its range or choices, its default, and the commands that take it.

/** They work on the data folder without a model or a server. */
export const DATABASE_COMMANDS = [
  'keys create',
  'keys list',
  'keys rotate',
  'keys revoke',
  'tenants set',
  'tenants list',
] as const;

export type Command =
  | 'serve'
  | 'pull'
  | 'convert'
  | 'adapters'
  | 'chat'
  | 'bench'
  | 'train'
  | 'plan'
  | 'export'
  | (typeof DATABASE_COMMANDS)[number];

interface Common {
  readonly help: string;
  /** Whose --help shows it. */
  readonly commands: readonly Command[];
  /** The flag, where it is not the name; two commands may use one flag for different options. */
  readonly flag?: string;
  /** The default in words, where it is no fixed value. */
  readonly fallbackWords?: string;
}

/** `fallback` is what holds when no source says anything; null is for what only the model or the server can tell. */
export type Option = Common &
  (
    | {
        readonly kind: 'integer';
        readonly min: number;
        readonly max: number;
        readonly fallback: number | null | (() => number);
      }
    | { readonly kind: 'choice'; readonly choices: readonly string[]; readonly fallback: string }
    /** `bare`: the flag alone means on. */
    | { readonly kind: 'switch'; readonly fallback: boolean; readonly bare?: true }
    | { readonly kind: 'text'; readonly placeholder: string; readonly fallback: string | null }
    /** A file or folder; absolute in Config, relative ones start at the working folder. */
    | { readonly kind: 'path'; readonly placeholder: string; readonly fallback: string | null }
    /** Repeatable NAME=PATH; the path is absolute in Config. */
    | { readonly kind: 'pairs'; readonly placeholder: string; readonly fallback: readonly NamedPath[] }
  );

export interface NamedPath {
  readonly name: string;
  readonly path: string;
}
