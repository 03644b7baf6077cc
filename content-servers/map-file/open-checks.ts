// What is checked and counted when a MapFile is opened: the files and their headers, the last index entry, and that the
// last record ends at the end of the file.

import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { IndexTable } from './index-table.ts';
import type { MapFileLimits } from './limits.ts';
import type { Segment } from './segment.ts';
import { SequenceFile } from './sequence-file.ts';
import { LONG } from './writable.ts';

/** Opens both files. Throws Error for a folder that is no MapFile, DamagedShard when the files do not fit together. */
export async function openFiles(
  folder: string,
  limits: MapFileLimits,
): Promise<{ readonly data: SequenceFile; readonly index: SequenceFile }> {
  const found = async (name: string): Promise<Stats | undefined> =>
    await stat(path.join(folder, name)).catch(() => undefined);
  if ((await found('data'))?.isFile() !== true)
    throw new Error('It is no MapFile: expected a folder with the files "data" and "index", found no file "data"');
  if ((await found('index'))?.isFile() !== true)
    throw new Error('The MapFile has no file "index"; make one with the method MapFile.fix of Hadoop');
  const data = await SequenceFile.open(path.join(folder, 'data'), limits);
  let index: SequenceFile | undefined;
  try {
    index = await SequenceFile.open(path.join(folder, 'index'), limits);
    const { keyClass, valueClass } = index.header;
    if (keyClass !== data.header.keyClass)
      throw index.file.damaged(0, `its keys have class "${keyClass}", those of data "${data.header.keyClass}"`);
    if (valueClass !== LONG) throw index.file.damaged(0, `its values have class "${valueClass}", expected "${LONG}"`);
    return { data, index };
  } catch (error) {
    await index?.close();
    await data.close();
    throw error;
  }
}

/**
 * Reads from the last index entry to the end of the file.
 * @returns the number of records there
 * @throws DamagedShard; Error when there is too much behind the last entry
 */
export async function readTail(data: SequenceFile, table: IndexTable, limits: MapFileLimits): Promise<number> {
  const { last } = table;
  const start = last?.position ?? data.start;
  let records = 0;
  let bytesRead = 0;
  let before: Segment | undefined;
  for (let at = start; at < data.size;) {
    const segment = await data.read(at, data.size);
    if (before !== undefined && segment.isBelow(before))
      throw data.file.damaged(at, 'its keys are below those before it');
    before = segment;
    if (at === start && last !== undefined) {
      const record = segment.lowerBound(last.key);
      if (record === segment.count || !segment.hasKey(record, last.key))
        throw data.file.damaged(at, 'the key of the last index entry is not here');
    }
    records += segment.count;
    bytesRead += segment.bytes;
    if (bytesRead > limits.tailBytesMax) {
      const why = `the last entry of its index is ${data.size - start} bytes before the end of its data`;
      throw new Error(`The MapFile has too little index: ${why}; make the index again with the method MapFile.fix`);
    }
    at = segment.end;
  }
  return records;
}

/**
 * Counts the records. Files without blocks have equally many for each index entry. Blocks say how many they have; of
 * many blocks the first ones are counted, and the rest is estimated by its bytes.
 */
export async function countRecords(
  data: SequenceFile,
  { first, second, last, total }: IndexTable,
  tail: number,
  limits: MapFileLimits,
): Promise<{ readonly entries: number; readonly isExact: boolean }> {
  if (first === undefined || last === undefined) return { entries: tail, isExact: true };
  const hasBlocks = data.header.compression === 'BLOCK';
  const until = hasBlocks || second === undefined ? last.position : second.position;
  let [beforeFirst, counted, segments, at] = [0, 0, 0, data.start];
  while (at < until && segments++ < limits.countedBlocksMax) {
    const { count, end } = await data.measure(at, at < first.position ? first.position : until);
    if (at < first.position) beforeFirst += count;
    else counted += count;
    at = end;
  }
  if (at < until) {
    const share = (last.position - data.start) / (at - data.start);
    return { entries: Math.round((beforeFirst + counted) * share) + tail, isExact: false };
  }
  return { entries: beforeFirst + counted * (hasBlocks ? 1 : total - 1) + tail, isExact: true };
}
