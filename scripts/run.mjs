// `npm start` and `npm run graft -- COMMAND`: sets up what is missing, then becomes the command line.
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { build, buildKernels, install, root } from './setup.mjs';

install();
build();
buildKernels();
process.argv[1] = join(root, 'dist', 'cli.js');
await import(pathToFileURL(process.argv[1]).href);
