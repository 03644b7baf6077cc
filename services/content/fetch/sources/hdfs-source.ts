// Shards in HDFS, by WebHDFS: the REST interface of the NameNode, which sends the reader to a DataNode for the bytes.
// `hdfs:` is HTTP and `swebhdfs:` is HTTPS. The NameNode is trusted to name its DataNodes.

import { z } from 'zod';
import { isNoShard, SHARDS_MAX } from '../../../../core/mod.ts';
import { SHARD_DEPTH_MAX, SHARD_FILES_MAX } from '../../limits.ts';
import { SourceError, type FoundShard, type ListedFile, type OpenedFile, type ShardSource } from '../shard-source.ts';
import { checkLength, refusalOf, request, type SourceAnswer } from './http-request.ts';

type HdfsStatus = z.infer<typeof STATUS>;

export class HdfsSource implements ShardSource {
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#env = env;
  }

  async listShards(source: string): Promise<readonly FoundShard[]> {
    const folder = source.replace(/\/$/, '');
    const entries = (await this.#entries(folder)).filter(({ pathSuffix }) => !isNoShard(pathSuffix));
    if (entries.some(({ pathSuffix }) => pathSuffix === ''))
      throw new SourceError(`${source} is a file, expected a folder of shards`);
    if (entries.length > SHARDS_MAX)
      throw new SourceError(`${source} has ${entries.length} shards, the limit is ${SHARDS_MAX}`);
    const shards: FoundShard[] = [];
    for (let at = 0; at < entries.length; at += LISTS_AT_ONCE) {
      const some = entries.slice(at, at + LISTS_AT_ONCE).map(async (entry) => {
        const name = entry.pathSuffix;
        return { name, files: await this.#files(`${folder}/${encodeURIComponent(name)}`, entry) };
      });
      shards.push(...(await Promise.all(some)));
    }
    return shards;
  }

  async listFiles(shard: string): Promise<readonly ListedFile[]> {
    const answer = await this.#ask(shard, { op: 'GETFILESTATUS' });
    const { FileStatus: status } = await parseAnswer(answer, shard, z.object({ FileStatus: STATUS }));
    return await this.#files(shard, status);
  }

  async open(shard: string, file: ListedFile, from: number): Promise<OpenedFile> {
    const url = file.path === '' ? shard : `${shard}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
    const length = file.bytes - from;
    const query = { op: 'OPEN', offset: String(from), length: String(length), noredirect: 'true' };
    const first = await this.#ask(url, query, [200, 307]);
    const answer = await this.#follow(first, url);
    checkLength(answer, length);
    return { chunks: answer.chunks() };
  }

  /** Returns the answer with the bytes, wherever it comes from: a NameNode redirects in one of two ways. */
  async #follow(first: SourceAnswer, url: string): Promise<SourceAnswer> {
    let location = first.headers.get('location') ?? '';
    if (first.status === 307) first.close();
    // A gateway (HttpFS) sends the bytes itself.
    else if (!(first.headers.get('content-type') ?? '').startsWith('application/json')) return first;
    else location = (await parseAnswer(first, url, z.object({ Location: z.string().max(8_192) }))).Location;
    const next = URL.canParse(location) ? new URL(location) : undefined;
    const isSafe =
      next !== undefined &&
      next.username === '' &&
      next.pathname.startsWith('/webhdfs/v1/') &&
      (next.protocol === 'https:' || (next.protocol === 'http:' && new URL(url).protocol === 'hdfs:'));
    if (!isSafe) throw new SourceError(`${url} was sent to a place that is no DataNode`);
    const answer = await request(next.href);
    if (answer.status !== 200) throw await this.#refusal(answer, url);
    return answer;
  }

  async #files(shard: string, status: HdfsStatus): Promise<readonly ListedFile[]> {
    const files: ListedFile[] = [];
    const visit = async (url: string, path: string, at: HdfsStatus, depth: number): Promise<void> => {
      if (at.type === 'FILE') {
        if (files.length === SHARD_FILES_MAX) throw new SourceError(`${shard} has more than ${SHARD_FILES_MAX} files`);
        files.push({ path, bytes: at.length, stamp: String(at.modificationTime) });
        return;
      }
      if (at.type !== 'DIRECTORY')
        throw new SourceError(`${url} is neither a file nor a folder; replace links by what they name`);
      if (depth === SHARD_DEPTH_MAX) throw new SourceError(`${url} is more than ${SHARD_DEPTH_MAX} folders deep`);
      for (const entry of await this.#entries(url)) {
        const name = entry.pathSuffix;
        await visit(`${url}/${encodeURIComponent(name)}`, path === '' ? name : `${path}/${name}`, entry, depth + 1);
      }
    };
    await visit(shard, '', status, 0);
    return files;
  }

  async #entries(url: string): Promise<readonly HdfsStatus[]> {
    const answer = await this.#ask(url, { op: 'LISTSTATUS' });
    const list = z.object({ FileStatuses: z.object({ FileStatus: z.array(STATUS) }) });
    return (await parseAnswer(answer, url, list)).FileStatuses.FileStatus;
  }

  async #ask(url: string, query: Readonly<Record<string, string>>, expected = [200]): Promise<SourceAnswer> {
    const { protocol, hostname, port, pathname } = new URL(url);
    const isTls = protocol === 'swebhdfs:';
    const params = new URLSearchParams(query);
    const { HADOOP_USER_NAME: user, WEBHDFS_DELEGATION_TOKEN: token } = this.#env;
    // A token names its user.
    if (token) params.set('delegation', token);
    else if (user) params.set('user.name', user);
    const server = `${isTls ? 'https' : 'http'}://${hostname}:${port || (isTls ? '9871' : '9870')}`;
    const answer = await request(`${server}/webhdfs/v1${pathname}?${params.toString()}`);
    if (!expected.includes(answer.status)) throw await this.#refusal(answer, url);
    return answer;
  }

  /** The words of a RemoteException, without its message where that may quote a token. */
  async #refusal(answer: SourceAnswer, url: string): Promise<SourceError> {
    const { status } = answer;
    const text = await answer.text(ERROR_BYTES_MAX).catch(() => '');
    const parsed = REMOTE_EXCEPTION.safeParse(parseJson(text));
    if (!parsed.success) {
      if (status === 401)
        return new SourceError(`${url} asks for Kerberos; set WEBHDFS_DELEGATION_TOKEN for the manager`);
      return refusalOf(answer, '200');
    }
    const name = parsed.data.RemoteException.exception;
    const why = WORDS[name] ?? 'was refused by HDFS';
    return new SourceError(`${url} ${why} (${name})`, { canPass: status >= 500 || CAN_PASS.includes(name) });
  }
}

async function parseAnswer<T>(answer: SourceAnswer, url: string, schema: z.ZodType<T>): Promise<T> {
  const parsed = schema.safeParse(parseJson(await answer.text()));
  if (parsed.success) return parsed.data;
  throw new SourceError(
    `the answer for ${url} is none of WebHDFS; see whether host and port are those of the NameNode`,
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const STATUS = z.object({
  pathSuffix: z.string().max(1_024),
  type: z.string(),
  length: z.int().nonnegative(),
  modificationTime: z.int(),
});
const REMOTE_EXCEPTION = z.object({
  RemoteException: z.object({ exception: z.string().regex(/^\w{1,100}$/) }),
});
const WORDS: Readonly<Record<string, string>> = {
  FileNotFoundException: 'does not exist',
  AccessControlException: 'may not be read by the HDFS user of this manager; HADOOP_USER_NAME names the user',
  SecurityException: 'is refused: WEBHDFS_DELEGATION_TOKEN or HADOOP_USER_NAME is missing or wrong',
  InvalidToken: 'is refused: WEBHDFS_DELEGATION_TOKEN is invalid or has expired',
  StandbyException: 'is on a standby NameNode; name the active one',
  RetriableException: 'is on a NameNode that is starting',
  IllegalArgumentException: 'is no path in HDFS',
};
const CAN_PASS = ['StandbyException', 'RetriableException'];
const LISTS_AT_ONCE = 8;
const ERROR_BYTES_MAX = 64 * 1024;
