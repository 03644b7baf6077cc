// Writes a file atomically and durably. A process that is killed at any moment finds the old or the new content.

import { mkdir, open, rename } from 'node:fs/promises';
import path from 'node:path';

/**
 * Replaces the content of a file atomically and syncs it; creates its folder. Mode 0600. Rejects with the system's
 * error and leaves the file unchanged.
 */
export async function replaceFile(file: string, text: string): Promise<void> {
  const folder = path.dirname(file);
  await mkdir(folder, { recursive: true, mode: 0o700 });
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

/** Syncs a folder, which makes a rename in it durable. Does nothing on systems that cannot open folders. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
