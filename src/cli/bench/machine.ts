// Where a measurement was made: processor, program version, commit. Figures without these say little.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { absentAsNull } from '../../model/absent-file.js';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  /** Of the instruction sets that matter here, those it has; null where the system does not say. */
  readonly instructionSets: readonly string[] | null;
  readonly platform: string;
  readonly node: string;
  /** Mean number of runnable threads over the last minute, before the measurement. */
  readonly loadBefore: number;
}

const INSTRUCTION_SETS = ['avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'amx_int8', 'asimddp', 'i8mm', 'sve'];

export async function describeMachine(): Promise<Machine> {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGb: Math.round(totalmem() / 2 ** 30),
    instructionSets: await instructionSets(),
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
    loadBefore: loadavg()[0]!,
  };
}

/** `1a2b3c4`, with ` with changes` where files differ from it; null outside a checkout or without git. */
export async function currentCommit(): Promise<string | null> {
  const git = promisify(execFile);
  const options = { cwd: import.meta.dirname };
  try {
    const { stdout: commit } = await git('git', ['rev-parse', '--short', 'HEAD'], options);
    const { stdout: changes } = await git('git', ['status', '--porcelain', '--untracked-files=no'], options);
    return `${commit.trim()}${changes === '' ? '' : ' with changes'}`;
  } catch (error) {
    if (error instanceof Error && 'code' in error) return null;
    throw error;
  }
}

/** Linux only. */
async function instructionSets(): Promise<readonly string[] | null> {
  const text = await absentAsNull(readFile('/proc/cpuinfo', 'utf8'));
  const line = text?.split('\n').find((entry) => /^(flags|Features)\s*:/.test(entry));
  if (line === undefined) return null;
  const flags = new Set(line.split(/[:\s]+/));
  return INSTRUCTION_SETS.filter((name) => flags.has(name));
}
