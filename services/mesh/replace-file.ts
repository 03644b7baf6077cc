// Atomic, durable writes of files that a process must find after it was killed at any moment.

import { mkdir, open, rename } from 'node:fs/promises';
import path from 'node:path';

/**
 * Replaces the content of a file atomically and syncs it; creates its folder. Mode 0600. Rejects with the system's
 * error and leaves the file unchanged.
 */
export async function replaceFile(file: string, text: string): Promise<void> {
  const folder = path.dirname(file);
  await mkdir(folder, { recursive: true });
  const temporary = `${file}.${process.pid}`;
  const handle = await open(temporary, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
  await syncFolder(folder);
}

/** Makes the rename durable. On systems where folders cannot be opened, the rename alone must do. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
