#!/usr/bin/env node
// The command line's entry: words in, exit code out. The only process.exit.
import { runCli } from './cli/program.js';
import { processTerminal } from './cli/terminal.js';

const code = await runCli(process.argv.slice(2), processTerminal(), () => import('./main.js'));
// Written output goes first: a pipe's reader may be slow.
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
