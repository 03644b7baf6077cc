// Shards in a bucket of S3, or of another store with its interface. Requests are signed by aws4fetch. A file is read
// only while it has the ETag of the listing.

import { AwsV4Signer } from 'aws4fetch';
import { isNoShard, SHARDS_MAX } from '../../../../core/mod.ts';
import { SHARD_FILES_MAX } from '../../limits.ts';
import { SourceError, type FoundShard, type ListedFile, type OpenedFile, type ShardSource } from '../shard-source.ts';
import { AwsCredentials, awsRegion, type AwsEnv } from './aws-credentials.ts';
import { checkLength, request, type SourceAnswer } from './http-request.ts';
import { recordsOf, textOf } from './xml-text.ts';

interface S3Place {
  readonly bucket: string;
  /** Without a slash at its ends; '' for the whole bucket. */
  readonly key: string;
}

interface S3Object {
  readonly key: string;
  readonly bytes: number;
  readonly etag: string;
}

export class S3Source implements ShardSource {
  readonly #env: AwsEnv;
  readonly #credentials: AwsCredentials;
  readonly #region: string;

  constructor(env: AwsEnv) {
    this.#env = env;
    this.#credentials = new AwsCredentials(env);
    this.#region = awsRegion(env);
  }

  async listShards(source: string): Promise<readonly FoundShard[]> {
    const place = placeOf(source);
    const shards = new Map<string, ListedFile[]>();
    const start = place.key === '' ? '' : `${place.key}/`;
    for await (const object of this.#list(place.bucket, start, source)) {
      const [name = '', ...steps] = object.key.slice(start.length).split('/');
      if (isNoShard(name)) continue;
      const files = shards.get(name) ?? [];
      if (files.length === 0) shards.set(name, files);
      if (shards.size > SHARDS_MAX) throw new SourceError(`${source} has more than ${SHARDS_MAX} shards`);
      files.push(fileOf(object, steps.join('/')));
    }
    return [...shards].map(([name, files]) => ({ name, files }));
  }

  async listFiles(shard: string): Promise<readonly ListedFile[]> {
    const { bucket, key } = placeOf(shard);
    const files: ListedFile[] = [];
    // Names that continue with a character before "/" come first: they belong to other shards.
    for await (const object of this.#list(bucket, `${key}/`, shard)) {
      if (files.length === SHARD_FILES_MAX) throw new SourceError(`${shard} has more than ${SHARD_FILES_MAX} files`);
      files.push(fileOf(object, object.key.slice(key.length + 1)));
    }
    if (files.length > 0) return files;
    let looked = 0;
    for await (const object of this.#list(bucket, key, shard)) {
      if (object.key === key) return [fileOf(object, '')];
      // In order it would come first, but not every store lists in order.
      if (++looked === PAGE_OBJECTS) break;
    }
    throw new SourceError(`${shard} does not exist`);
  }

  async open(shard: string, file: ListedFile, from: number): Promise<OpenedFile> {
    const { bucket, key } = placeOf(shard);
    const headers: Record<string, string> = { 'if-match': `"${file.stamp}"`, 'x-amz-checksum-mode': 'ENABLED' };
    if (from > 0) headers['range'] = `bytes=${from}-`;
    const url = this.#url(bucket, file.path === '' ? key : `${key}/${file.path}`);
    const answer = await this.#get(url, headers);
    const etag = answer.headers.get('etag')?.replace(/^"|"$/g, '');
    // Not every store knows If-Match.
    if (answer.status === 412 || (answer.status < 300 && etag !== undefined && etag !== file.stamp)) {
      answer.close();
      throw new SourceError(`${nameOf(shard, file)} has changed while it was fetched: its ETag is another one`);
    }
    if (answer.status !== (from === 0 ? 200 : 206)) throw await this.#refusal(answer, nameOf(shard, file));
    const range = answer.headers.get('content-range') ?? '';
    if (from > 0 && !range.startsWith(`bytes ${from}-${file.bytes - 1}/`)) {
      answer.close();
      throw new SourceError(
        `${nameOf(shard, file)} came with the range "${range.slice(0, 100)}", expected from ${from} on`,
      );
    }
    checkLength(answer, file.bytes - from);
    return { chunks: answer.chunks(), sha256: from === 0 ? sha256Of(answer) : undefined };
  }

  /** All objects whose keys begin with a text, in order of the keys. */
  async *#list(bucket: string, prefix: string, shown: string): AsyncGenerator<S3Object> {
    let token: string | undefined;
    for (let count = 0; ;) {
      const query = new URLSearchParams({
        'list-type': '2',
        'encoding-type': 'url',
        'max-keys': String(PAGE_OBJECTS),
        prefix,
      });
      if (token !== undefined) query.set('continuation-token', token);
      const answer = await this.#get(`${this.#url(bucket, '')}?${query.toString().replaceAll('+', '%20')}`, {});
      if (answer.status !== 200) throw await this.#refusal(answer, shown);
      const xml = await answer.text();
      if (!xml.includes('<ListBucketResult')) throw new SourceError(`the answer for ${shown} is no list of S3 objects`);
      const isEncoded = textOf(xml, 'EncodingType') === 'url';
      for (const record of recordsOf(xml, 'Contents')) {
        const object = objectOf(record, isEncoded, shown);
        // The marks of folders are no files.
        if (object.key.endsWith('/')) continue;
        if (++count > OBJECTS_MAX) throw new SourceError(`${shown} has more than ${OBJECTS_MAX} files`);
        yield object;
      }
      if (textOf(xml, 'IsTruncated') !== 'true') return;
      const next = textOf(xml, 'NextContinuationToken');
      if (next === undefined || next === token)
        throw new SourceError(`the list of ${shown} goes on without a new token`);
      token = next;
    }
  }

  async #get(url: string, headers: Readonly<Record<string, string>>): Promise<SourceAnswer> {
    const keys = await this.#credentials.get();
    const signer = new AwsV4Signer({
      url,
      headers,
      service: 's3',
      region: this.#region,
      accessKeyId: keys.accessKeyId,
      secretAccessKey: keys.secretAccessKey,
      ...(keys.sessionToken === undefined ? {} : { sessionToken: keys.sessionToken }),
    });
    const signed = await signer.sign();
    return await request(signed.url.href, { headers: Object.fromEntries(signed.headers) });
  }

  /** URL of an object. Stores with an endpoint of their own have the bucket in the path. */
  #url(bucket: string, key: string): string {
    const path = key === '' ? '' : `/${key.split('/').map(encodeStep).join('/')}`;
    const endpoint = this.#env['AWS_ENDPOINT_URL_S3'] || this.#env['AWS_ENDPOINT_URL'];
    if (endpoint !== undefined) {
      if (!/^https?:$/.test(URL.canParse(endpoint) ? new URL(endpoint).protocol : ''))
        throw new SourceError('AWS_ENDPOINT_URL is no URL such as https://s3.example.org');
      return `${endpoint.replace(/\/$/, '')}/${bucket}${path}`;
    }
    const domain = this.#region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com';
    // A dot in the name does not match the certificate.
    return bucket.includes('.')
      ? `https://s3.${this.#region}.${domain}/${bucket}${path}`
      : `https://${bucket}.s3.${this.#region}.${domain}${path || '/'}`;
  }

  async #refusal(answer: SourceAnswer, shown: string): Promise<SourceError> {
    const { status } = answer;
    const region = answer.headers.get('x-amz-bucket-region') ?? '';
    const code = textOf(await answer.text(ERROR_BYTES_MAX).catch(() => ''), 'Code') ?? `status ${status}`;
    const isElsewhere = /^[a-z0-9-]+$/.test(region) && region !== this.#region;
    const why = isElsewhere
      ? `is in the region ${region}, and AWS_REGION is ${this.#region}`
      : (WORDS[code] ?? 'was refused by S3');
    const canPass = status === 429 || status >= 500;
    return new SourceError(`${shown} ${why} (${code.replace(/[^\w. -]/g, '').slice(0, 100)})`, { canPass });
  }
}

function placeOf(url: string): S3Place {
  const { hostname, pathname } = new URL(url);
  // Rules of S3: 3 to 63 characters; some stores also allow "_".
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$/.test(hostname))
    throw new SourceError(`${url} names no bucket, expected a URL such as s3://bucket/wiki`);
  return { bucket: hostname, key: decodeURIComponent(pathname).replace(/^\/|\/$/g, '') };
}

function objectOf(record: string, isEncoded: boolean, shown: string): S3Object {
  const key = textOf(record, 'Key');
  const bytes = Number(textOf(record, 'Size') ?? Number.NaN);
  const etag = textOf(record, 'ETag')?.replace(/^"|"$/g, '') ?? '';
  if (key === undefined || !Number.isSafeInteger(bytes) || bytes < 0 || !/^[\w./+=:-]{1,200}$/.test(etag))
    throw new SourceError(`the list of ${shown} has a file without name, size or ETag`);
  try {
    return { key: isEncoded ? decodeURIComponent(key.replaceAll('+', ' ')) : key, bytes, etag };
  } catch {
    throw new SourceError(`the list of ${shown} has a name that is not UTF-8`);
  }
}

function fileOf({ bytes, etag }: S3Object, path: string): ListedFile {
  return { path, bytes, stamp: etag };
}

/** The SHA-256 of the whole object, if it was uploaded with one. */
function sha256Of(answer: SourceAnswer): string | undefined {
  const found = answer.headers.get('x-amz-checksum-sha256') ?? '';
  // A digest of the parts of an upload ends with their number.
  return /^[A-Za-z0-9+/]{43}=$/.test(found) ? Buffer.from(found, 'base64').toString('hex') : undefined;
}

function nameOf(shard: string, { path }: Pick<ListedFile, 'path'>): string {
  return path === '' ? shard : `${shard}/${path}`;
}

/** Escapes also the characters that `encodeURIComponent` leaves, as S3 requires. */
function encodeStep(step: string): string {
  return encodeURIComponent(step).replace(/[!'()*]/g, (found) => `%${found.charCodeAt(0).toString(16).toUpperCase()}`);
}

const WORDS: Readonly<Record<string, string>> = {
  NoSuchBucket: 'names a bucket that does not exist',
  NoSuchKey: 'does not exist',
  AccessDenied: 'may not be read with the credentials of this manager',
  InvalidAccessKeyId: 'is refused: S3 does not know the access key of this manager',
  SignatureDoesNotMatch: 'is refused: the secret key of this manager does not fit its access key',
  ExpiredToken: 'is refused: the session token of this manager has expired',
  InvalidToken: 'is refused: the session token of this manager is invalid',
  RequestTimeTooSkewed: 'is refused: the clock of this machine is wrong',
  SlowDown: 'is asked for too often',
};
/** Objects of one answer. */
const PAGE_OBJECTS = 1_000;
/** Files of one source. */
const OBJECTS_MAX = 500_000;
const ERROR_BYTES_MAX = 64 * 1024;
