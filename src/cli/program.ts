// The commands: their words, their help, and which function runs them. Returns an exit code, so that a test can call it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command as Program, CommanderError } from 'commander';
import { z } from 'zod';
import type { ConfigOf } from '../config.js';
import { GatewayError } from '../errors.js';
import { addAdapter, listAdapters, removeAdapter, showAdapter } from './adapters.js';
import { chat } from './chat.js';
import { type Action, configOf, examples, type LoadMain } from './command.js';
import { addFlags, readFlags } from './flags.js';
import { convert, pull } from './prepare.js';
import { readConfig } from './read-config.js';
import { serve } from './serve.js';
import { RefusedRequest, ServerClient } from './server-client.js';
import { addTenantCommands } from './tenant-program.js';
import type { Terminal } from './terminal.js';

export type { LoadMain } from './command.js';

const USAGE_ERROR = 2;
const packageFile = z.object({ version: z.string(), description: z.string() });

/** Exit code: 0, 1 for a failure, 2 for a wrong command line or configuration, 130 for an interrupt. */
export async function runCli(
  argv: readonly string[],
  terminal: Terminal,
  loadMain: LoadMain,
): Promise<number> {
  let code = 0;
  const program = buildProgram(terminal, (action) => async (...args: unknown[]) => {
    const command = args.at(-1);
    if (command instanceof Program) code = await action(command, terminal, loadMain);
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    return reportFailure(error, terminal);
  }
}

function buildProgram(
  terminal: Terminal,
  run: (action: Action) => (...args: unknown[]) => Promise<void>,
): Program {
  const { version, description } = packageFile.parse(
    JSON.parse(readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8')),
  );
  const program = new Program('graft')
    .description(`Graft: ${description}.`)
    .version(version, '--version', 'print the version')
    .helpOption('--help', 'print this help')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
    })
    .addHelpText('after', examples('graft serve', 'graft serve --help'));

  addFlags(program.command('serve'), 'serve')
    .description('serve a base model and its adapters over HTTP')
    .addHelpText(
      'after',
      examples(
        'graft serve',
        'graft serve --model Qwen2.5-0.5B-Instruct --port 0 --adapter legal=./adapters/legal',
        'graft serve --model ./model.gguf --config graft.json',
      ),
    )
    .action(run(runServe));
  addFlags(program.command('pull <MODEL>'), 'pull')
    .description('download a model and convert it, so that serve starts at once')
    .addHelpText('after', examples('graft pull SmolLM2-360M-Instruct', 'graft pull owner/name:file.gguf'))
    .action(run(runPull));
  addFlags(program.command('convert <SOURCE>'), 'convert')
    .description(
      'convert a model for serving: a folder of safetensors, a .gguf file, a catalog name or a Hub id',
    )
    .addHelpText(
      'after',
      examples(
        'graft convert ./my-model --weights q8',
        'graft convert model.gguf --out ./converted',
        'graft convert model.gguf --report ./sample.txt',
      ),
    )
    .action(run(runConvert));
  addAdapterCommands(
    program
      .command('adapters')
      .description('list, add and remove the adapters of a running server; export those of a data folder'),
    run,
  );
  addFlags(program.command('chat'), 'chat')
    .description('chat with a running server in the terminal')
    .addHelpText(
      'after',
      examples('graft chat', 'graft chat --model legal --system "Answer in one sentence."'),
    )
    .action(run(runChat));
  addFlags(program.command('bench'), 'bench')
    .description('measure this machine: the raw graph, the server over HTTP, and another server beside it')
    .addHelpText(
      'after',
      examples(
        'graft bench --out bench.json',
        'graft bench --peer llama.cpp=http://127.0.0.1:8081',
        'graft bench --soak 10',
      ),
    )
    .action(run(runBench));
  addTrainingCommands(program, run);
  addTenantCommands(program, run);
  return program;
}

function addTrainingCommands(
  program: Program,
  run: (action: Action) => (...args: unknown[]) => Promise<void>,
): void {
  addFlags(program.command('train <CONFIG> [KEY=VALUE...]'), 'train')
    .description("train an adapter as a YAML file with LLaMA-Factory's keys says; KEY=VALUE overrides one")
    .addHelpText(
      'after',
      examples(
        'graft train sft.yaml',
        'graft train sft.yaml learning_rate=2e-4 output_dir=saves/second',
        'graft train dpo.yaml --weights f32',
      ),
    )
    .action(run(runTrain));
  addFlags(program.command('plan [CONFIG] [KEY=VALUE...]'), 'plan')
    .description(
      'what such a run needs: memory, steps, tokens, time; without CONFIG, a table of common sizes',
    )
    .addHelpText(
      'after',
      examples('graft plan sft.yaml', 'graft plan sft.yaml quantization_bit=4', 'graft plan'),
    )
    .action(run(runPlan));
}

function addAdapterCommands(
  adapters: Program,
  run: (action: Action) => (...args: unknown[]) => Promise<void>,
): void {
  adapters.addHelpText('after', examples('graft adapters add legal ./adapters/legal', 'graft adapters list'));
  addFlags(adapters.command('list'), 'adapters')
    .description('list the adapters')
    .addHelpText('after', examples('graft adapters list', 'graft adapters list --url http://127.0.0.1:9000'))
    .action(run((command, terminal) => listAdapters(clientOf(command, 0, terminal), terminal)));
  addFlags(adapters.command('show <NAME>'), 'adapters')
    .description('show an adapter, and what merging it drifts and gains by form')
    .addHelpText('after', examples('graft adapters show legal'))
    .action(
      run((command, terminal) => showAdapter(clientOf(command, 1, terminal), command.args[0]!, terminal)),
    );
  addFlags(adapters.command('add <NAME> <PATH>'), 'adapters')
    .description('upload a PEFT folder, .zip or .tar.gz; the same name again makes a new version')
    .addHelpText('after', examples('graft adapters add legal ./adapters/legal'))
    .action(
      run((command, terminal) =>
        addAdapter(clientOf(command, 2, terminal), command.args[0]!, command.args[1]!, terminal),
      ),
    );
  addFlags(adapters.command('remove <NAME>'), 'adapters')
    .description('remove an adapter; requests under way finish')
    .addHelpText('after', examples('graft adapters remove legal'))
    .action(
      run((command, terminal) => removeAdapter(clientOf(command, 1, terminal), command.args[0]!, terminal)),
    );
  addFlags(adapters.command('export <NAME>'), 'export')
    .description(
      "write an adapter of the data folder, or the base with it merged in, into other programs' formats",
    )
    .addHelpText(
      'after',
      examples(
        'graft adapters export legal --out ./legal',
        'graft adapters export legal --merged --type bf16 --out ./legal-merged',
        'graft adapters export legal@2 --merged --format gguf --type q8_0 --out legal.gguf',
      ),
    )
    .action(run(runExport));
}

async function runExport(command: Program, terminal: Terminal, loadMain: LoadMain): Promise<number> {
  const options = configOf('export', command, 1, terminal);
  const { exportAdapter } = await import('./adapter-export.js');
  const config = serveConfig('export', command, terminal);
  return exportAdapter(command.args[0]!, options, config, terminal, await loadMain());
}

async function runServe(command: Program, terminal: Terminal, loadMain: LoadMain): Promise<number> {
  return serve(configOf('serve', command, 0, terminal), terminal, await loadMain());
}

async function runPull(command: Program, terminal: Terminal, loadMain: LoadMain): Promise<number> {
  return pull(serveConfig('pull', command, terminal), terminal, await loadMain());
}

async function runConvert(command: Program, terminal: Terminal, loadMain: LoadMain): Promise<number> {
  const options = configOf('convert', command, 1, terminal);
  return convert(serveConfig('convert', command, terminal), options, terminal, await loadMain());
}

async function runChat(command: Program, terminal: Terminal): Promise<number> {
  const config = configOf('chat', command, 0, terminal);
  return chat(config, new ServerClient(config.url, config.apiKey), terminal);
}

/** The benchmark is loaded when it is run: it brings the readers of adapters along. */
async function runBench(command: Program, terminal: Terminal, loadMain: LoadMain): Promise<number> {
  const options = configOf('bench', command, 0, terminal);
  const { bench } = await import('./bench.js');
  return bench(options, serveConfig('bench', command, terminal), terminal, await loadMain());
}

async function runTrain(command: Program, terminal: Terminal, loadMain: LoadMain): Promise<number> {
  const settings = configOf('train', command, command.args.length, terminal);
  const { train, trainingTools } = await trainingCommands();
  const tools = trainingTools(serveConfig('train', command, terminal), await loadMain());
  return train(command.args[0]!, command.args.slice(1), settings, terminal, tools);
}

async function runPlan(command: Program, terminal: Terminal, loadMain: LoadMain): Promise<number> {
  const settings = configOf('plan', command, command.args.length, terminal);
  const { plan, planTable, trainingTools } = await trainingCommands();
  const [file, ...overrides] = command.args;
  if (file === undefined) return planTable(terminal);
  const tools = trainingTools(serveConfig('plan', command, terminal), await loadMain());
  return plan(file, overrides, settings, terminal, tools);
}

/** Loaded when they are run: the trainer is most of the program. */
async function trainingCommands() {
  const [commands, plans, tools] = await Promise.all([
    import('./train.js'),
    import('./plan.js'),
    import('./train/tools.js'),
  ]);
  return { ...commands, ...plans, ...tools };
}

function clientOf(command: Program, numArguments: number, terminal: Terminal): ServerClient {
  const { url, apiKey } = configOf('adapters', command, numArguments, terminal);
  return new ServerClient(url, apiKey);
}

/** The settings that serve would have, with the one argument, where the command takes it, as the model: so serve finds what was prepared. */
function serveConfig(
  name: 'pull' | 'convert' | 'bench' | 'train' | 'plan' | 'export',
  command: Program,
  { env, cwd }: Terminal,
): ConfigOf<'serve'> {
  const takesModel = name === 'pull' || name === 'convert';
  const numArguments = name === 'bench' ? 0 : takesModel ? 1 : command.args.length;
  const { flags, file, problems } = readFlags(command, name, numArguments);
  const model = takesModel ? { model: command.args[0] } : {};
  return readConfig('serve', { flags: { ...flags, ...model }, file, problems, env, cwd });
}

/** Says what went wrong: our own faults with their stack, a user's without. */
function reportFailure(error: unknown, { stderr }: Terminal): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_ERROR;
  if (error instanceof GatewayError || error instanceof RefusedRequest) {
    stderr.write(`${error.message}\n`);
    return error instanceof GatewayError && error.code === 'invalid_config' ? USAGE_ERROR : 1;
  }
  stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  return 1;
}
