// Writes docs/configuration.md from the option table: `node --import tsx scripts/configuration-docs.mjs`.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { configurationDocs } from '../src/cli/configuration-docs.ts';

const target = join(import.meta.dirname, '..', 'docs', 'configuration.md');
writeFileSync(
  target,
  await format(configurationDocs(), { ...(await resolveConfig(target)), filepath: target }),
);
