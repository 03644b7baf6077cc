// Hadoop's compression codecs, by the names of their classes. Each packed value or part of a block is a stream of its
// own. What unpacks to more than a limit is refused while it is unpacked. Short input is unpacked at once, longer input
// on another thread.

import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import { isWholeZstd } from './zstd-frame.ts';

import zlib from 'node:zlib';

type Unpacked = Buffer | Promise<Buffer>;

/** A codec that can be read. */
export interface PackCodec {
  /** For people: `zlib`. */
  readonly label: string;
  /**
   * @param bytesMax limit of the unpacked bytes
   * @throws DamagedShard, also as a rejection
   */
  readonly unpack: (packed: Buffer, bytesMax: number) => Unpacked;
}

interface UnpackOptions {
  readonly maxOutputLength: number;
  readonly chunkSize: number;
}
type UnpackNow = (packed: Buffer, options: UnpackOptions) => Buffer;
type UnpackLater = (
  packed: Buffer,
  options: UnpackOptions,
  done: (error: Error | null, unpacked: Buffer) => void,
) => void;

const PACKAGE = 'org.apache.hadoop.io.compress.';

/** Returns a codec by the name of its class. Throws an Error that names a codec which cannot be read. */
export function codecOf(className: string): PackCodec {
  const named = JSON.stringify(className);
  switch (className) {
    case `${PACKAGE}DefaultCodec`:
    case `${PACKAGE}DeflateCodec`:
      return codec('zlib', zlib.inflateSync, zlib.inflate);
    case `${PACKAGE}GzipCodec`:
      return codec('gzip', zlib.gunzipSync, zlib.gunzip);
    case `${PACKAGE}ZStandardCodec`:
      return zstd(named);
    default:
      throw new Error(`Codec ${named} cannot be read; write the MapFile with DefaultCodec or GzipCodec`);
  }
}

/** Newer runtimes have it. */
function zstd(named: string): PackCodec {
  const { zstdDecompressSync, zstdDecompress } = zlib as unknown as {
    readonly zstdDecompressSync?: UnpackNow;
    readonly zstdDecompress?: UnpackLater;
  };
  if (zstdDecompressSync === undefined || zstdDecompress === undefined) {
    const why = 'zstd needs Node 22.15 or later; write the MapFile with DefaultCodec or GzipCodec';
    throw new Error(`Codec ${named} cannot be read with this version of ${process.release.name}: ${why}`);
  }
  return codec('zstd', zstdDecompressSync, zstdDecompress, isWholeZstd);
}

function codec(
  label: string,
  now: UnpackNow,
  later: UnpackLater,
  isWhole: (packed: Buffer) => boolean = () => true,
): PackCodec {
  const damage = (error: unknown, bytesMax: number): DamagedShard => {
    const { code, message } = error as { code?: string; message: string };
    const isTooLarge = code === 'ERR_BUFFER_TOO_LARGE';
    return new DamagedShard(
      isTooLarge ? `it unpacks to more than ${bytesMax} bytes, the limit` : `${label}: ${message}`,
    );
  };
  return {
    label,
    unpack: (packed, bytesMax) => {
      if (!isWhole(packed)) throw new DamagedShard(`${label} data is cut off`);
      const chunkSize = Math.min(Math.max(packed.length * 4, CHUNK_BYTES_MIN), CHUNK_BYTES_MAX);
      const options = { maxOutputLength: bytesMax, chunkSize };
      if (packed.length > AT_ONCE_BYTES_MAX) {
        return new Promise((resolve, reject) => {
          later(packed, options, (error, unpacked) => {
            if (error === null || error === undefined) resolve(unpacked);
            else reject(damage(error, bytesMax));
          });
        });
      }
      try {
        return now(packed, options);
      } catch (error) {
        throw damage(error, bytesMax);
      }
    },
  };
}

/** Unpacking this much takes some 0.1 ms. */
const AT_ONCE_BYTES_MAX = 16 * 1024;
const CHUNK_BYTES_MIN = 256;
const CHUNK_BYTES_MAX = 256 * 1024;
