// The words of `keys` and `tenants`. What they do is in keys.ts and tenants.ts, loaded when it is run.
import type { Command as Program } from 'commander';
import { type Action, configOf, examples } from './command.js';
import { addFlags } from './flags.js';

type Run = (action: Action) => (...args: unknown[]) => Promise<void>;

/** They work on the data folder itself: a running server sees what they do from its next request on. */
export function addTenantCommands(program: Program, run: Run): void {
  const keys = program
    .command('keys')
    .description('make, list, rotate and revoke the API keys of a data folder')
    .addHelpText('after', examples('graft keys create --scopes admin', 'graft keys list'));
  addFlags(keys.command('create'), 'keys create')
    .description('make a key and print it, this once')
    .addHelpText(
      'after',
      examples(
        'graft keys create --scopes admin --name operator',
        'graft keys create --tenant acme --scopes chat,adapters --expires-days 90',
      ),
    )
    .action(
      run(async (command, terminal) => {
        const config = configOf('keys create', command, 0, terminal);
        return (await import('./keys.js')).createKeyCommand(config, terminal);
      }),
    );
  addFlags(keys.command('list'), 'keys list')
    .description('list the keys, without the keys themselves')
    .addHelpText('after', examples('graft keys list', 'graft keys list --tenant acme'))
    .action(
      run(async (command, terminal) => {
        const config = configOf('keys list', command, 0, terminal);
        return (await import('./keys.js')).listKeysCommand(config, terminal);
      }),
    );
  addFlags(keys.command('rotate <ID>'), 'keys rotate')
    .description('make a new key in the place of one, and print it, this once')
    .addHelpText('after', examples('graft keys rotate key_0123456789abcdef01234567 --overlap-minutes 1440'))
    .action(
      run(async (command, terminal) => {
        const config = configOf('keys rotate', command, 1, terminal);
        return (await import('./keys.js')).rotateKeyCommand(command.args[0]!, config, terminal);
      }),
    );
  addFlags(keys.command('revoke <ID>'), 'keys revoke')
    .description('end a key at once; requests under way finish')
    .addHelpText('after', examples('graft keys revoke key_0123456789abcdef01234567'))
    .action(
      run(async (command, terminal) => {
        const config = configOf('keys revoke', command, 1, terminal);
        return (await import('./keys.js')).revokeKeyCommand(command.args[0]!, config, terminal);
      }),
    );
  const tenants = program
    .command('tenants')
    .description('make, change and list the tenants of a data folder')
    .addHelpText('after', examples('graft tenants set acme --requests-per-minute 60', 'graft tenants list'));
  addFlags(tenants.command('set <NAME>'), 'tenants set')
    .description('make a tenant, or change what is said of one; the rest of its settings stays')
    .addHelpText(
      'after',
      examples(
        'graft tenants set acme --requests-per-minute 60 --tokens-per-minute 100000',
        'graft tenants set acme --max-adapters 10 --max-jobs -1',
      ),
    )
    .action(
      run(async (command, terminal) => {
        const config = configOf('tenants set', command, 1, terminal);
        return (await import('./tenants.js')).setTenantCommand(command.args[0]!, config, terminal);
      }),
    );
  addFlags(tenants.command('list'), 'tenants list')
    .description('list the tenants with their limits and quotas')
    .addHelpText('after', examples('graft tenants list'))
    .action(
      run(async (command, terminal) => {
        const config = configOf('tenants list', command, 0, terminal);
        return (await import('./tenants.js')).listTenantsCommand(config, terminal);
      }),
    );
}
