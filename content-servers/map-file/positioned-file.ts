// A file that is read by position, a bounded part at a time. Its size is taken once: a shard does not change while it
// is open.

import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';

import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';

export class PositionedFile {
  /** Name without the folder, for messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly #handle: FileHandle;

  private constructor(name: string, size: number, handle: FileHandle) {
    this.name = name;
    this.size = size;
    this.#handle = handle;
  }

  static async open(file: string): Promise<PositionedFile> {
    const handle = await open(file, 'r');
    try {
      const found = await handle.stat();
      if (!found.isFile()) throw new Error(`${file} is not a file`);
      return new PositionedFile(path.basename(file), found.size, handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * Reads exactly `length` bytes. The caller has checked that they are within the file and its limits.
   * @throws DamagedShard when the file has become shorter
   */
  async read(position: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(length);
    let filled = 0;
    while (filled < length) {
      const { bytesRead } = await this.#handle.read(bytes, filled, length - filled, position + filled);
      if (bytesRead === 0) throw this.damaged(position + filled, 'the file has become shorter');
      filled += bytesRead;
    }
    return bytes;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  /** An error that says where the damage is. */
  damaged(position: number, what: string): DamagedShard {
    return new DamagedShard(`${this.name} is damaged at byte ${position}: ${what}`);
  }

  /** Adds the position to an error of a function that does not know it. */
  locate(position: number, thrown: unknown): unknown {
    if (!(thrown instanceof DamagedShard) || thrown.message.startsWith(`${this.name} is damaged`)) return thrown;
    return this.damaged(position, thrown.message);
  }
}
