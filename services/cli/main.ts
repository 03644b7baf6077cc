#!/usr/bin/env node
// Entry point of the `katamari` command: runs the program with the streams, environment and signals of this process,
// and exits with its code.

import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import { markMemoryInSteps, scriptCommand } from '../../core/mod.ts';
import { processTerminal } from './kit/terminal.ts';
import { runProgram } from './program.ts';

const terminal = processTerminal(process.env);

// `katamari status | head` closes our output early. That is normal, so EPIPE exits with 0.
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
  // Loaded only by `up` and the role commands, so that client commands start fast.
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

// Flush the output, then exit: keep-alive connections would keep the process alive for seconds.
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
process.exit(exitCode);

/** Calls `act` with each key. In raw mode Ctrl-C is a key, not a signal. */
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
