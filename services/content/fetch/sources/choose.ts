// Chooses how a source is read by the scheme of its URL. Only the code of that scheme is loaded: loading all takes more
// time than the fetch of a small shard.

import { shownSource } from '../../allowed-sources.ts';
import { SourceError, type ShardSource } from '../shard-source.ts';

/** Rejects with SourceError when the text is no URL, or its scheme is unknown. */
export async function sourceFor(url: string, allowed: readonly string[] = []): Promise<ShardSource> {
  switch (URL.canParse(url) ? new URL(url).protocol : '') {
    case 'file:':
      return new (await import('./file-source.ts')).FileSource();
    case 'http:':
    case 'https:':
      return new (await import('./http-source.ts')).HttpSource(allowed);
    case 's3:':
      return new (await import('./s3-source.ts')).S3Source(process.env);
    case 'hdfs:':
    case 'swebhdfs:':
      return new (await import('./hdfs-source.ts')).HdfsSource(process.env);
    default:
      throw new SourceError(`found the source ${shownSource(url)}, expected a URL such as file:///srv/indices/wiki`);
  }
}
