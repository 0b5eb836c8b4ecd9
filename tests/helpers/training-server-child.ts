// A server whose workers do a fake run, as a process of its own that a test may kill: `training-server-child.ts DATA_DIR`. It says where it
// listens, and ends in order on SIGTERM.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { readConfig } from '../../src/cli/read-config.js';
import { startServer } from '../../src/main.js';
import { BASE_FOLDER } from './running-server.js';

const [dataDir] = process.argv.slice(2);
const flags = { model: BASE_FOLDER, weights: 'f32', threads: '1', slots: '2', port: '0', dataDir };
const config = readConfig('serve', { flags, env: {}, file: null, cwd: '/' });
const runModule = pathToFileURL(join(import.meta.dirname, 'fake-training-run.ts')).href;
const server = await startServer(config, { progress: () => {}, log: () => {} }, runModule);
process.stdout.write(`${server.url}\n`);
process.once('SIGTERM', () => void server.close());
