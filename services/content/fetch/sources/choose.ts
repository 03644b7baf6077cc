// Chooses how a source is read by the scheme of its URL.

import { shownSource } from '../../allowed-sources.ts';
import { SourceError, type ShardSource } from '../shard-source.ts';
import { FileSource } from './file-source.ts';
import { HdfsSource } from './hdfs-source.ts';
import { HttpSource } from './http-source.ts';
import { S3Source } from './s3-source.ts';

/** @throws SourceError when the text is no URL, or its scheme is unknown */
export function sourceFor(url: string, allowed: readonly string[] = []): ShardSource {
  const scheme = URL.canParse(url) ? new URL(url).protocol : '';
  const make = SOURCES[scheme];
  if (make !== undefined) return make(allowed);
  throw new SourceError(`found the source ${shownSource(url)}, expected a URL such as file:///srv/indices/wiki`);
}

const SOURCES: Readonly<Record<string, (allowed: readonly string[]) => ShardSource>> = {
  'file:': () => new FileSource(),
  'http:': (allowed) => new HttpSource(allowed),
  'https:': (allowed) => new HttpSource(allowed),
  's3:': () => new S3Source(process.env),
  'hdfs:': () => new HdfsSource(process.env),
  'swebhdfs:': () => new HdfsSource(process.env),
};
