#!/usr/bin/env node
// The `katamari` command: gives the program the process's own surroundings and ends with its exit code. Only composes.

import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import { markMemoryInSteps, scriptCommand } from '../../core/mod.ts';
import { processTerminal } from './kit/terminal.ts';
import { runProgram } from './program.ts';

const terminal = processTerminal(process.env);

// `katamari status | head` closes our output; that is how the reader says it has enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const exitCode = await runProgram(process.argv.slice(2), {
  terminal,
  env: process.env,
  cwd: process.cwd(),
  program: scriptCommand(fileURLToPath(import.meta.url)),
  async readInput() {
    let text = '';
    process.stdin.setEncoding('utf8');
    for await (const part of process.stdin) text += part as string;
    return text;
  },
  // Loaded only by `up`, so that a client command does not pay for a mesh.
  async startMesh(config, hooks, roles) {
    markMemoryInSteps();
    return (await import('../process/mod.ts')).startMesh(config, hooks, roles);
  },
  onStopSignal(act) {
    process.on('SIGTERM', act);
    process.on('SIGINT', act);
  },
  onKey: isatty(0) ? listenToKeys : undefined,
  exitNow: (code) => process.exit(code),
});

// Kept-alive connections would hold the process for seconds; output is flushed first.
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
process.exit(exitCode);

/** Ctrl-C is a key then, too. */
function listenToKeys(act: (key: string) => void): () => void {
  const { stdin } = process;
  const onData = (data: Buffer): void => act(data.toString());
  stdin.setRawMode(true);
  stdin.on('data', onData);
  stdin.resume();
  return () => {
    stdin.off('data', onData);
    stdin.pause();
    stdin.setRawMode(false);
  };
}
