// Allows one agent per data directory: the owner listens on a Unix socket in it. The operating system closes the
// socket when the process ends, even after a crash. So a lock is never stale, and a reused process id cannot be
// mistaken for the owner.

import { createHash } from 'node:crypto';
import { chmodSync, realpathSync, rmSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { findSocketBase, SOCKET_PATH_BYTES_MAX } from '../../core/mod.ts';

/** Locks the directory and returns a function that unlocks it. Rejects if another process holds the lock. */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const real = realpathSync(directory);
  let path = join(real, 'lock.sock');
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    path = join(
      findSocketBase().directory,
      `katamari-${createHash('sha256').update(real).digest('hex').slice(0, 24)}.sock`,
    );
  }
  const server = await listen(path).catch(async (error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    if (await answers(path)) {
      throw new Error(
        `Cannot use the data directory ${directory}: another agent uses it. Stop that agent or use another directory`,
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
      chmodSync(path, 0o600);
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
    // The owner closes connections at once, which can cause a reset here. It is running then.
    socket.once('error', ({ code = '' }: NodeJS.ErrnoException) => resolve(!NOT_LISTENING.has(code)));
  });
}

const NOT_LISTENING: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOENT', 'ENOTSOCK']);
