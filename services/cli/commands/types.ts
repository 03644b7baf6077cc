// `katamari types FILE.thrift` generates the TypeScript types of an interface, for handlers of a chassis and for
// callers.

import { existsSync, writeFileSync } from 'node:fs';
import { parseIdl, readIdlFile, writeTypes } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { ExitError, EXIT, type ExitCode } from '../../config/mod.ts';
import type { CliContext } from '../kit/context.ts';
import path from 'node:path';

export interface TypesCommandOptions {
  readonly out?: string | undefined;
  readonly i64?: string | undefined;
  readonly include?: readonly string[] | undefined;
}

export function runTypes({ terminal, cwd }: CliContext, file: string, options: TypesCommandOptions): ExitCode {
  const includes = (options.include ?? []).map((folder) => path.resolve(cwd, folder));
  const text = render(path.resolve(cwd, file), file, includes, readI64(options.i64));
  if (options.out === undefined) {
    terminal.write(text);
    return EXIT.done;
  }
  try {
    writeFileSync(path.resolve(cwd, options.out), text);
  } catch (error) {
    throw new ExitError(EXIT.failed, `--out: cannot write ${options.out}: ${(error as Error).message}`, error);
  }
  terminal.writeError(`Wrote ${options.out}\n`);
  return EXIT.done;
}

function render(file: string, shown: string, includes: readonly string[], i64: 'bigint' | 'number'): string {
  if (!existsSync(file)) throw new ExitError(EXIT.usage, `${shown}: no such file, expected a .thrift file`);
  try {
    return writeTypes(parseIdl(readIdlFile(file, includes)), path.basename(shown), { i64 });
  } catch (error) {
    if (error instanceof KatamariError) throw new ExitError(EXIT.badConfiguration, error.message, error);
    throw error;
  }
}

function readI64(text: string | undefined): 'bigint' | 'number' {
  if (text === undefined || text === 'bigint' || text === 'number') return text ?? 'bigint';
  throw new ExitError(EXIT.usage, `--i64: found ${JSON.stringify(text)}, expected "bigint" or "number"`);
}
