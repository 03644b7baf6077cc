// Chooses how a source is read by the scheme of its URL.

import { shownSource } from '../../allowed-sources.ts';
import { SourceError, type ShardSource } from '../shard-source.ts';
import { FileSource } from './file-source.ts';

/** @throws SourceError when the text is no URL, or its scheme is unknown */
export function sourceFor(url: string, _allowed: readonly string[] = []): ShardSource {
  const scheme = URL.canParse(url) ? new URL(url).protocol : '';
  const make = SOURCES[scheme];
  if (make !== undefined) return make();
  throw new SourceError(`found the source ${shownSource(url)}, expected a URL such as file:///srv/indices/wiki`);
}

const SOURCES: Readonly<Record<string, () => ShardSource>> = {
  'file:': () => new FileSource(),
};
