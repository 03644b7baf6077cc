// One agent per data directory: the owner listens on a Unix socket in it. The system closes the socket when its
// process ends, however it ends, so a lock is never left behind, and no process id can be mistaken for another's.

import { createHash } from 'node:crypto';
import { realpathSync, rmSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Longest path that fits a socket address on every system. */
const SOCKET_PATH_MAX = 100;

/** Takes the directory; the returned function gives it back. Rejects when another process has it. */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const real = realpathSync(directory);
  let path = join(real, 'lock.sock');
  if (path.length > SOCKET_PATH_MAX) {
    path = join(tmpdir(), `katamari-${createHash('sha256').update(real).digest('hex').slice(0, 24)}.sock`);
  }
  const server = await listen(path).catch(async (error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    if (await answers(path)) {
      throw new Error(
        `Cannot use the data directory ${directory}: another agent has it. Stop that one or give this one another directory`,
      );
    }
    rmSync(path, { force: true });
    return listen(path);
  });
  return () =>
    new Promise((resolve) => {
      server.close(() => {
        rmSync(path, { force: true });
        resolve();
      });
    });
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', reject);
    server.listen(path, () => {
      server.unref();
      resolve(server);
    });
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // One that accepts and closes at once may show as a reset here: somebody was there.
    socket.once('error', ({ code = '' }: NodeJS.ErrnoException) => resolve(!NOBODY_THERE.has(code)));
  });
}

const NOBODY_THERE: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOENT', 'ENOTSOCK']);
