// Runs `promtool check` on metrics or on a configuration, and returns its output and exit code.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { toolPath } from './tools.ts';

export interface Said {
  readonly code: number;
  readonly said: string;
}

export function promtool(metrics: string): Promise<Said> {
  return check(['metrics'], metrics);
}

/** @param file a Prometheus configuration */
export function promtoolConfig(file: string): Promise<Said> {
  return check(['config', file], '');
}

async function check(args: readonly string[], input: string): Promise<Said> {
  const child = spawn(toolPath('promtool'), ['check', ...args], { stdio: 'pipe' });
  child.stdin.end(input);
  const [out, error, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code: code as number, said: out + error };
}
