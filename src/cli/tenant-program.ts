// The words of `keys` and `tenants`. What they do is in keys.ts and tenants.ts, loaded when it is run.
import type { Command as Program } from 'commander';
import type { ConfigOf } from '../config.js';
import { type Action, configOf, examples } from './command.js';
import { addFlags } from './flags.js';
import type { Command } from './options/option.js';
import type { Terminal } from './terminal.js';

type Run = (action: Action) => (...args: unknown[]) => Promise<void>;

interface Subcommand<C extends Command> {
  readonly name: C;
  readonly description: string;
  readonly examples: readonly string[];
}

/** They work on the data folder itself: a running server sees what they do from its next request on. */
export function addTenantCommands(program: Program, run: Run): void {
  addKeyCommands(program, run);
  const tenants = program
    .command('tenants')
    .description('make, change and list the tenants of a data folder')
    .addHelpText('after', examples('graft tenants set acme --requests-per-minute 60', 'graft tenants list'));
  addOnName(
    run,
    tenants.command('set <NAME>'),
    {
      name: 'tenants set',
      description: 'make a tenant, or change what is said of one; the rest of its settings stays',
      examples: [
        'graft tenants set acme --requests-per-minute 60 --tokens-per-minute 100000',
        'graft tenants set acme --max-adapters 10 --max-jobs -1',
      ],
    },
    async (...given) => (await import('./tenants.js')).setTenantCommand(...given),
  );
  addPlain(
    run,
    tenants.command('list'),
    {
      name: 'tenants list',
      description: 'list the tenants with their limits and quotas',
      examples: ['graft tenants list'],
    },
    async (...given) => (await import('./tenants.js')).listTenantsCommand(...given),
  );
}

function addKeyCommands(program: Program, run: Run): void {
  const keys = program
    .command('keys')
    .description('make, list, rotate and revoke the API keys of a data folder')
    .addHelpText('after', examples('graft keys create --scopes admin', 'graft keys list'));
  addPlain(
    run,
    keys.command('create'),
    {
      name: 'keys create',
      description: 'make a key and print it, this once',
      examples: [
        'graft keys create --scopes admin --name operator',
        'graft keys create --tenant acme --scopes chat,adapters --expires-days 90',
      ],
    },
    async (...given) => (await import('./keys.js')).createKeyCommand(...given),
  );
  addPlain(
    run,
    keys.command('list'),
    {
      name: 'keys list',
      description: 'list the keys, without the keys themselves',
      examples: ['graft keys list', 'graft keys list --tenant acme'],
    },
    async (...given) => (await import('./keys.js')).listKeysCommand(...given),
  );
  addOnName(
    run,
    keys.command('rotate <ID>'),
    {
      name: 'keys rotate',
      description: 'make a new key in the place of one, and print it, this once',
      examples: ['graft keys rotate key_0123456789abcdef01234567 --overlap-minutes 1440'],
    },
    async (...given) => (await import('./keys.js')).rotateKeyCommand(...given),
  );
  addOnName(
    run,
    keys.command('revoke <ID>'),
    {
      name: 'keys revoke',
      description: 'end a key at once; requests under way finish',
      examples: ['graft keys revoke key_0123456789abcdef01234567'],
    },
    async (...given) => (await import('./keys.js')).revokeKeyCommand(...given),
  );
}

/** A command without words of its own. */
function addPlain<C extends Command>(
  run: Run,
  command: Program,
  words: Subcommand<C>,
  act: (config: ConfigOf<C>, terminal: Terminal) => Promise<number>,
): void {
  describe(command, words).action(
    run(async (given, terminal) => act(configOf(words.name, given, 0, terminal), terminal)),
  );
}

/** A command on the one thing that it names. */
function addOnName<C extends Command>(
  run: Run,
  command: Program,
  words: Subcommand<C>,
  act: (name: string, config: ConfigOf<C>, terminal: Terminal) => Promise<number>,
): void {
  describe(command, words).action(
    run(async (given, terminal) => act(given.args[0]!, configOf(words.name, given, 1, terminal), terminal)),
  );
}

function describe<C extends Command>(command: Program, words: Subcommand<C>): Program {
  return addFlags(command, words.name)
    .description(words.description)
    .addHelpText('after', examples(...words.examples));
}
