// Shards on an HTTP server. HTTP cannot list, so a file `shards.json` beside the shards names their files, with sizes
// and SHA-256 digests: see docs/shard-sources.md for its format. Redirects stay on the server and below the prefixes.

import { z } from 'zod';
import { SHARDS_JSON, SHARDS_MAX } from '../../../../core/mod.ts';
import { whyNotAllowed } from '../../allowed-sources.ts';
import { SHARD_FILES_MAX } from '../../limits.ts';
import { SourceError, type FoundShard, type ListedFile, type OpenedFile, type ShardSource } from '../shard-source.ts';
import { checkLength, refusalOf, request, type SourceAnswer } from './http-request.ts';

export class HttpSource implements ShardSource {
  readonly listsDigests: boolean = true;
  readonly #allowed: readonly string[];
  /** Strong ETags of files that this process has opened. */
  readonly #etags = new Map<string, string>();

  /** @param allowed URL prefixes to which a redirect may lead */
  constructor(allowed: readonly string[]) {
    this.#allowed = allowed;
  }

  async listShards(source: string): Promise<readonly FoundShard[]> {
    const url = `${source.replace(/\/$/, '')}/${SHARDS_JSON}`;
    const answer = await this.#get(url);
    if (answer.status !== 200) throw refusalOf(answer, `200 with the list of the shards`);
    const text = await answer.text(LIST_BYTES_MAX);
    try {
      const { shards } = SHARD_LIST.parse(JSON.parse(text));
      return shards.map(({ name, files }) => ({ name, files: files.map((file) => ({ ...file, stamp: file.sha256 })) }));
    } catch (error) {
      const what = error instanceof z.ZodError ? whereIn(error) : 'no JSON';
      throw new SourceError(`${url} is no list of shards (${what}); docs/shard-sources.md shows its format`);
    }
  }

  async listFiles(shard: string): Promise<readonly ListedFile[]> {
    const end = shard.lastIndexOf('/');
    const [source, name] = [shard.slice(0, end), shard.slice(end + 1)];
    const found = (await this.listShards(source)).find((one) => one.name === name);
    if (found === undefined) throw new SourceError(`${source}/${SHARDS_JSON} does not list ${name}`);
    return found.files;
  }

  async open(shard: string, file: ListedFile, from: number): Promise<OpenedFile> {
    const url = file.path === '' ? shard : `${shard}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
    const etag = this.#etags.get(url);
    const headers: Record<string, string> = from === 0 ? {} : { range: `bytes=${from}-` };
    // Without an ETag, a file that was replaced meanwhile is found by its SHA-256.
    if (from > 0 && etag !== undefined) headers['if-range'] = etag;
    const answer = await this.#get(url, headers);
    const found = answer.headers.get('etag') ?? '';
    if (etag !== undefined && found !== '' && found !== etag) {
      answer.close();
      throw new SourceError(`${url} has changed while it was fetched: its ETag is another one`);
    }
    if (found.startsWith('"')) this.#etags.set(url, found);
    if (from > 0 && answer.status === 206) {
      checkRange(answer, from, file.bytes);
      return { chunks: answer.chunks() };
    }
    if (answer.status !== 200) throw refusalOf(answer, from === 0 ? '200' : '206 with the rest of the file');
    checkLength(answer, file.bytes);
    // A server without ranges sends the whole file again.
    return { chunks: from === 0 ? answer.chunks() : skip(answer.chunks(), from) };
  }

  async #get(url: string, headers: Readonly<Record<string, string>> = {}): Promise<SourceAnswer> {
    let at = url;
    for (let redirects = 0; ; redirects++) {
      const answer = await request(at, { headers });
      const location = answer.headers.get('location');
      if (![301, 302, 303, 307, 308].includes(answer.status) || location === null) return answer;
      answer.close();
      const next = URL.canParse(location, at) ? new URL(location, at) : undefined;
      const why =
        redirects === REDIRECTS_MAX
          ? `redirects more than ${REDIRECTS_MAX} times`
          : next?.origin !== new URL(at).origin
            ? 'redirects to another server'
            : refusedRedirect(whyNotAllowed(next.href, this.#allowed));
      if (why !== undefined) throw new SourceError(`${url} ${why}`);
      at = next?.href ?? at;
    }
  }
}

function refusedRedirect(why: string | undefined): string | undefined {
  return why === undefined ? undefined : `redirects to where it must not. ${why}`;
}

/** Throws unless the answer is the rest of the file. */
function checkRange(answer: SourceAnswer, from: number, bytes: number): void {
  const range = answer.headers.get('content-range') ?? '';
  const [, start, end, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range) ?? [];
  if (Number(start) === from && Number(end) === bytes - 1 && (total === '*' || Number(total) === bytes)) return;
  answer.close();
  throw new SourceError(`${answer.url} sends the range "${range}", expected bytes ${from}-${bytes - 1}/${bytes}`);
}

async function* skip(chunks: AsyncIterable<Uint8Array>, count: number): AsyncGenerator<Uint8Array> {
  let left = count;
  for await (const chunk of chunks) {
    const rest = chunk.subarray(Math.min(left, chunk.length));
    left -= chunk.length - rest.length;
    // Report progress also for an empty chunk.
    yield rest;
  }
}

function whereIn(error: z.ZodError): string {
  const [issue] = error.issues;
  return `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`;
}

const SHARD_LIST = z.object({
  shards: z
    .array(
      z.object({
        name: z.string().max(255),
        files: z
          .array(
            z.object({
              path: z.string().max(1_024),
              bytes: z.int().nonnegative(),
              sha256: z.string().regex(/^[0-9a-f]{64}$/),
            }),
          )
          .max(SHARD_FILES_MAX),
      }),
    )
    .max(SHARDS_MAX),
});

/** Some 200,000 files. */
const LIST_BYTES_MAX = 32 * 1024 * 1024;
const REDIRECTS_MAX = 5;
