// Looks for damage in the files of a fetched shard: one that is missing, has another size, or another SHA-256 than when
// it was fetched. It reads all of them, at a rate.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { CONTENT, RECORD } from '../shard-folder.ts';
import { damageBehind, findOddFile, nameOfFile, readShardRecord } from '../shard-record.ts';
import { ByteRate } from './byte-rate.ts';

/**
 * @param folder of `content` and `shard.json`
 * @param onBytes called with the sum of bytes that were read, also each second while the rate has it wait
 * @returns what is wrong; '' when nothing is
 * @throws the error of the system when it cannot be told
 */
export async function findDamage(
  folder: string,
  onBytes: (bytesDone: number) => void,
  rate: ByteRate = new ByteRate(0),
): Promise<string> {
  const record = readShardRecord(folder);
  if (record === undefined) return `${RECORD} is missing, or cannot be read`;
  const odd = await findOddFile(folder, record);
  if (odd !== '') return odd;
  let bytesDone = 0;
  for (const file of record.files) {
    const hash = createHash('sha256');
    const chunks = createReadStream(path.join(folder, CONTENT, file.path), { highWaterMark: CHUNK_BYTES });
    try {
      for await (const chunk of chunks as AsyncIterable<Buffer>) {
        hash.update(chunk);
        onBytes((bytesDone += chunk.length));
        await rate.spend(chunk.length, () => onBytes(bytesDone));
      }
    } catch (error) {
      return damageBehind(nameOfFile(file), error);
    }
    if (hash.digest('hex') !== file.sha256) return `${nameOfFile(file)} has another SHA-256 than when it was fetched`;
  }
  return '';
}

const CHUNK_BYTES = 256 * 1024;
