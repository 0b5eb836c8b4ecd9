// docs/configuration.md, from the option table.
import { envName, fileKey, flagName, OPTIONS, type OptionKey } from '../config.js';
import { expectation, fallbackText, placeholder } from './option-value.js';
import type { Command, Option } from './options/option.js';
import { CONFIG_ENV, optionsOf } from './read-config.js';

const SECTIONS: readonly (readonly [Command, string])[] = [
  ['serve', 'Options of `serve`'],
  ['pull', 'Options of `pull MODEL`'],
  ['convert', 'Options of `convert SOURCE`'],
  ['adapters', 'Options of `adapters list|add|remove`'],
  ['export', 'Options of `adapters export NAME`'],
  ['chat', 'Options of `chat`'],
  ['bench', 'Options of `bench`'],
  ['train', 'Options of `train CONFIG`'],
  ['plan', 'Options of `plan CONFIG`'],
  ['keys create', 'Options of `keys create`'],
  ['keys list', 'Options of `keys list`'],
  ['keys rotate', 'Options of `keys rotate ID`'],
  ['keys revoke', 'Options of `keys revoke ID`'],
  ['tenants set', 'Options of `tenants set NAME`'],
  ['tenants list', 'Options of `tenants list`'],
];

const INTRODUCTION = `# Configuration

<!-- Made from src/config.ts by \`node --import tsx scripts/configuration-docs.mjs\`; do not edit. -->

Each option has a default and can be set in a JSON file, in the environment and by a flag; the later of these wins.
The file is named by \`--config FILE\` or \`${CONFIG_ENV}\`; its keys are the names below:

\`\`\`json
{ "model": "SmolLM2-135M-Instruct", "slots": 8, "prefix-cache": "on", "adapter": { "legal": "./adapters/legal" } }
\`\`\`

An unknown flag, file key or environment variable that begins with \`GRAFT_\`, a value that does not fit, or options that
contradict each other end the program with exit code 2, after all problems have been listed. An empty environment variable
counts as unset. Relative paths start at the working folder. \`HF_ENDPOINT\` (a mirror of the Hugging Face Hub) and \`HF_TOKEN\`
(for gated and private models) are respected.

In Kubernetes, a Service named \`graft\` makes variables such as \`GRAFT_PORT=tcp://...\`: set \`enableServiceLinks: false\` in the pod.
`;

export function configurationDocs(): string {
  const sections = SECTIONS.map(
    ([command, title]) => `## ${title}\n\n${optionsOf(command).map(describe).join('\n')}`,
  );
  return `${[INTRODUCTION.trim(), ...sections].join('\n\n')}\n`;
}

function describe(key: OptionKey): string {
  const option: Option = OPTIONS[key];
  const fallback = fallbackText(option);
  const value = `\`--${flagName(key)} ${placeholder(option)}\``;
  const names = `file: \`${fileKey(key)}\`, environment: \`${envName(key)}\``;
  const range = option.kind === 'integer' ? `; ${expectation(option)}` : '';
  const standard = option.fallbackWords === undefined ? `\`${fallback}\`` : fallback;
  return `- ${value}: ${option.help}${range}; default: ${standard} (${names})`;
}
