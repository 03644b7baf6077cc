#!/usr/bin/env node
// Entry point of the `katamari` command: runs the program with the streams, environment and signals of this process,
// and exits with its code.

import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import { markMemoryInSteps, scriptCommand } from '../../core/mod.ts';
import { OutputQueue } from './kit/output-queue.ts';
import { processTerminal } from './kit/terminal.ts';
import { runProgram } from './program.ts';

/** How long a process that has stopped waits for its last output to be read. */
const FLUSH_MS = 1_000;
const terminal = processTerminal(process.env);
/** Output of a process that serves calls; empty for other commands. */
let outputs: readonly OutputQueue[] = [];

// `katamari status | head` closes our output early. That is normal, so EPIPE exits with 0. A process that serves calls
// does not write to these streams.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
process.stderr.on('error', () => undefined);

const exitCode = await runProgram(process.argv.slice(2), {
  terminal,
  serverTerminal(notice) {
    const [out, err] = [1, 2].map((fd) => new OutputQueue({ fd, notice })) as [OutputQueue, OutputQueue];
    outputs = [out, err];
    return { ...terminal, write: (text) => out.write(text), writeError: (text) => err.write(text) };
  },
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
  onHangup(act) {
    process.on('SIGHUP', act);
  },
  onUncaught(act) {
    process.on('uncaughtException', act);
    process.on('unhandledRejection', act);
  },
  onStopSignal(act) {
    process.on('SIGTERM', act);
    process.on('SIGINT', act);
  },
  onKey: isatty(0) ? listenToKeys : undefined,
  exitNow: (code) => process.exit(code),
});

// Flush the output, then exit: keep-alive connections would keep the process alive for seconds.
if (outputs.length > 0) await Promise.all(outputs.map((output) => output.flush(FLUSH_MS)));
else await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
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
