// The program of the content server MapFileLookup. Start it as a chassis: `node .../content-servers/map-file/main.js`.

import { chassis, Content, type HandlerContext, KatamariError } from '../../chassis-sdk/typescript/mod.ts';
import { DEFAULT_LIMITS } from '../../core/mod.ts';
import { getMany, getOne, type LookupLimits, MAP_FILE_LIMITS, MapFile, SegmentCache } from './mod.ts';

const MIB = 1024 * 1024;
/** Bytes of an answer that are not entries. */
const RESERVE_BYTES = 64 * 1024;

/** A whole number from the environment. */
function setting(name: string, otherwise: number): number {
  const value = process.env[name] ?? '';
  if (value === '') return otherwise;
  if (/^[1-9]\d{0,9}$/.test(value)) return Number(value);
  throw new KatamariError('bad_request', `${name} is "${value}", expected a whole number above 0`);
}

const frameBytesMax = setting('KATAMARI_FRAME_BYTES_MAX', DEFAULT_LIMITS.frameBytesMax);
const limits: LookupLimits = { keysMax: 10_000, answerBytesMax: Math.max(frameBytesMax - RESERVE_BYTES, 1) };
const fileLimits = {
  ...MAP_FILE_LIMITS,
  valueBytesMax: limits.answerBytesMax,
  indexBytesMax: setting('MAP_FILE_INDEX_MIB', MAP_FILE_LIMITS.indexBytesMax / MIB) * MIB,
};
const cache = new SegmentCache(setting('MAP_FILE_CACHE_MIB', 64) * MIB);

const content = new Content<MapFile>({
  open: async (folder) => {
    const shard = await MapFile.open(folder, cache, fileLimits);
    return { shard, entries: shard.entries, more: shard.facts };
  },
  close: (shard) => shard.close(),
});

await chassis({
  idl: new URL('./map_file_lookup.thrift', import.meta.url),
  service: 'MapFileLookup',
  version: '1.0.0',
  concurrency: 16,
  i64: 'number',
  content,
  handlers: {
    get: ({ shards, key }: { shards?: string[]; key: Buffer }) =>
      content.use(shards, (open) => getOne(open, key, limits)),
    getMany: ({ shards, keys = [] }: { shards?: string[]; keys?: Buffer[] }, context: HandlerContext) =>
      content.use(shards, (open) => getMany(open, keys, limits, () => context.timeLeftMs())),
  },
});
