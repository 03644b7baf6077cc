// `katamari index build` makes the shards of a text index from files, with the same code that TextSearch uses.

import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { BuildError, buildShards, type BuildProgress } from '../../../content-servers/text/mod.ts';
import { describeSize } from '../../../core/mod.ts';
import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import type { CliContext } from '../kit/context.ts';
import { cut, formatBar, LiveLines, printable, type Terminal } from '../kit/terminal.ts';

export interface IndexBuildOptions {
  readonly out: string;
  readonly shards: string;
  readonly tokenizer?: string | undefined;
  readonly json?: boolean | undefined;
}

export async function runIndexBuild(
  context: CliContext,
  files: readonly string[],
  options: IndexBuildOptions,
): Promise<ExitCode> {
  const { terminal, cwd } = context;
  const shards = /^\d{1,4}$/.test(options.shards) ? Number(options.shards) : 0;
  if (shards < 1)
    throw new ExitError(EXIT.usage, `--shards: found ${JSON.stringify(options.shards)}, expected 1 to 4000`);
  const inputs = (await Promise.all(files.map((file) => filesOf(path.resolve(cwd, file))))).flat();
  const stop = new AbortController();
  context.onStopSignal(() => stop.abort(new ExitError(EXIT.failed, 'Stopped; nothing was written')));
  const live = new LiveLines(terminal);
  try {
    const result = await buildShards({
      inputs,
      output: path.resolve(cwd, options.out),
      shards,
      ...(options.tokenizer === undefined ? {} : { tokenizer: options.tokenizer }),
      onProgress: (progress) => {
        if (terminal.isScreen) live.draw([progressLine(terminal, progress, shards)]);
      },
      signal: stop.signal,
    });
    live.clear();
    const { documents, bytes, seconds } = result;
    terminal.write(
      options.json === true
        ? `${JSON.stringify(result)}\n`
        : `Built ${result.shards.length} shards of ${documents} documents in ${options.out}: ${describeSize(bytes)}, ${seconds.toFixed(1)} s.\n`,
    );
    return EXIT.done;
  } catch (error) {
    live.clear();
    if (error instanceof BuildError) throw new ExitError(EXIT.failed, error.message, error);
    throw error;
  }
}

function progressLine(terminal: Terminal, progress: BuildProgress, shards: number): string {
  const { stage, documents, bytesRead, bytesToRead } = progress;
  const [done, all] = stage === 'reading' ? [bytesRead, bytesToRead] : [progress.shards, shards];
  return cut(`${stage.padEnd(8)} ${documents} documents  ${formatBar(terminal, done, all, 20)}`, terminal.columns());
}

/** A file, or the files of a folder that can be read, at any depth. */
async function filesOf(file: string): Promise<string[]> {
  const facts = await stat(file).catch(() => undefined);
  if (facts?.isDirectory() !== true) return [file];
  const entries = await readdir(file, { recursive: true, withFileTypes: true });
  const found = entries
    .filter((entry) => entry.isFile() && /\.(ndjson|jsonl|txt|md)$/i.test(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
  if (found.length > 0) return found;
  throw new ExitError(EXIT.failed, `${printable(file)} has no file that ends in .ndjson, .jsonl, .txt or .md`);
}
