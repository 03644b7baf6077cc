// Files that a process must find again after it was killed at any moment: written whole or not at all, and safe on the disk before the next.

import { mkdir, open, rename } from 'node:fs/promises';
import path from 'node:path';

/** Puts `text` in the place of the file, for its owner's eyes only; makes its folder. Rejects with the system's error, the file unchanged. */
export async function replaceFile(file: string, text: string): Promise<void> {
  const folder = path.dirname(file);
  await mkdir(folder, { recursive: true });
  const beside = `${file}.${process.pid}`;
  const handle = await open(beside, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(beside, file);
  await syncFolder(folder);
}

/** The new name is on the disk too. Where folders cannot be opened the rename has to do. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
