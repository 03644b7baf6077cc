// Shards in S3: real S3 servers that check signatures, and the places where credentials may be.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AwsV4Signer } from 'aws4fetch';
import { AwsCredentials, awsRegion } from '../../../services/content/fetch/sources/aws-credentials.ts';
import { TestEnvironment } from '../../kit/content/environment.ts';
import { BreakingRelay } from '../../kit/content/breaking-relay.ts';
import { Fetching } from '../../kit/content/fetching.ts';
import { FileServer } from '../../kit/content/file-server.ts';
import { S3_SERVERS, type S3Server, type S3ServerKind } from '../../kit/content/s3-servers.ts';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

let folder: string;
let fetching: Fetching;
const environment = new TestEnvironment();

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-s3-source-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => environment.restore());

/** Sets where the server is and how to sign, and nothing else of AWS. */
function useServer(endpoint: string, { accessKeyId, secretAccessKey }: S3ServerKind['keys']): void {
  environment.set({
    AWS_ENDPOINT_URL: endpoint,
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_SHARED_CREDENTIALS_FILE: path.join(folder, 'no-credentials'),
    AWS_CONFIG_FILE: path.join(folder, 'no-config'),
    AWS_PROFILE: undefined,
    AWS_SESSION_TOKEN: undefined,
    AWS_REGION: undefined,
  });
  fetching = new Fetching(mkdtempSync(path.join(folder, 'store-')), ['s3://indices/'], { isHere: true });
}

const A = { 'words.txt': 'hello', 'deep/er/ü +=%(1)*!.txt': 'there' };

for (const { name, keys, unknownKey, start } of S3_SERVERS) {
  describe(`An S3 source on ${name}`, () => {
    let server: S3Server;
    beforeAll(async () => {
      server = await start(path.join(folder, name));
      await put('', '');
      await put('wiki/a/words.txt', 'hello');
      await put('wiki/a/deep/er/ü +=%(1)*!.txt', 'there');
      await put('wiki/a-b/words.txt', 'another shard, whose name sorts before "a/"');
      await put('wiki/c.db', 'one file');
      await put('wiki/c.db2', 'another');
      await put('wiki/_SUCCESS', '');
    }, 60_000);
    afterAll(async () => await server?.close());
    beforeEach(() => useServer(server.endpoint, keys));

    /** Makes the bucket for ''. */
    async function put(key: string, body: string): Promise<void> {
      const path = key
        .split('/')
        .map((step) => encodeURIComponent(step).replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16)}`))
        .join('/');
      const url = `${server.endpoint}/indices${key === '' ? '' : `/${path}`}`;
      const signer = new AwsV4Signer({ method: 'PUT', url, service: 's3', region: 'us-east-1', body, ...keys });
      const { headers } = await signer.sign();
      const response = await fetch(url, { method: 'PUT', headers, body });
      expect([key, response.status, await response.text()]).toEqual([key, 200, '']);
    }

    test('is listed and fetched', async () => {
      expect([...(await fetching.inspect('s3://indices/wiki')).keys()]).toEqual(['a', 'a-b', 'c.db', 'c.db2']);
      expect((await fetching.fetch('s3://indices/wiki/', 'a')).files).toEqual(A);
      expect((await fetching.fetch('s3://indices/wiki', 'c.db')).files).toEqual({ '': 'one file' });
    });

    test('is read by the fetch process, which has the keys in its environment', async () => {
      const apart = new Fetching(mkdtempSync(path.join(folder, 'apart-')), ['s3://indices/wiki']);
      expect((await apart.fetch('s3://indices/wiki', 'a')).files).toEqual(A);
    });

    test('whose connections break goes on where they broke', async () => {
      const content = 'abcdefghij'.repeat(100_000);
      await put('large/a/large.bin', content);
      const relay = await BreakingRelay.start(server.endpoint, 100_000);
      try {
        environment.set({ AWS_ENDPOINT_URL: relay.url });
        const digest = (await fetching.inspect('s3://indices/large')).get('a') as string;
        relay.breaksLeft = 5;
        const { files, progress } = await fetching.fetch('s3://indices/large', 'a', { digest });
        expect(files['large.bin'] === content).toBe(true);
        expect(relay.breaksLeft).toBe(0);
        // No byte comes twice.
        expect(progress.at(-1)).toBe(content.length);
        expect(progress.every((done, at) => done >= (progress[at - 1] ?? 0))).toBe(true);
      } finally {
        await relay.close();
      }
    }, 60_000);

    test('that has changed since it was added is refused', async () => {
      await put('fresh/a/words.txt', 'hello');
      const digest = (await fetching.inspect('s3://indices/fresh')).get('a') as string;
      await put('fresh/a/words.txt', 'Hello');
      expect(await fetching.refusal('s3://indices/fresh', 'a', { digest })).toContain('has changed since it was added');
    });

    test.each<[string, Record<string, string | undefined>, string, string]>([
      ['in no bucket', {}, 's3://nowhere/wiki', 's3://nowhere/wiki names a bucket that does not exist (NoSuchBucket)'],
      ['without shards', {}, 's3://indices/none', 's3://indices/none is empty'],
      ['of a bad name', {}, 's3://x/wiki', 'names no bucket'],
      ['read with a wrong key', { AWS_ACCESS_KEY_ID: 'OTHER' }, 's3://indices/wiki', unknownKey],
      [
        'read with a wrong secret',
        { AWS_SECRET_ACCESS_KEY: 'not-the-secret' },
        's3://indices/wiki',
        'the secret key of this manager does not fit its access key (SignatureDoesNotMatch)',
      ],
      [
        'read without keys',
        { AWS_ACCESS_KEY_ID: '' },
        's3://indices/wiki',
        'no credentials for S3: set AWS_ACCESS_KEY_ID',
      ],
      ['at a bad endpoint', { AWS_ENDPOINT_URL: 'localhost' }, 's3://indices/wiki', 'AWS_ENDPOINT_URL is no URL'],
      ['at no endpoint', { AWS_ENDPOINT_URL: 'http://127.0.0.1:1' }, 's3://indices/wiki', 'cannot be reached: '],
    ])('%s is refused in words without secrets', async (_, env, source, why) => {
      environment.set(env);
      const found = await fetching.inspect(source).then(
        () => '',
        (error: Error) => error.message,
      );
      expect(found).toContain(why);
      expect(found).not.toMatch(/not-the-secret|Signature=|X-Amz/i);
      expect(found).not.toContain(keys.secretAccessKey);
    });
  });
}

describe('An S3 store', () => {
  let store: FileServer;
  const etag = '"0123456789abcdef"';
  const list = (more: string): string =>
    `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${more}</ListBucketResult>`;
  const entry = (key: string, bytes: number): string =>
    `<Contents><Key>${key}</Key><ETag>&quot;0123456789abcdef&quot;</ETag><Size>${bytes}</Size></Contents>`;
  beforeEach(async () => {
    store = await FileServer.start();
    useServer(store.url, { accessKeyId: 'KEY', secretAccessKey: 'SECRET' });
  });
  afterEach(async () => await store.end());

  /** Serves `wiki/a/words.txt` in this way. */
  function serve(status: number, headers: Readonly<Record<string, string>>, body: string): void {
    store.answer = ({ url = '' }, response) => {
      if (url.includes('list-type=2')) response.writeHead(200).end(list(entry('wiki/a/words.txt', 5)));
      else response.writeHead(status, headers).end(body);
      return true;
    };
  }

  test('that has a SHA-256 of a file is held to it', async () => {
    const whole = 'LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=';
    serve(200, { etag, 'x-amz-checksum-sha256': whole }, 'hello');
    expect((await fetching.fetch('s3://indices/wiki', 'a')).files).toEqual({ 'words.txt': 'hello' });
    serve(200, { etag, 'x-amz-checksum-sha256': whole }, 'hallo');
    fetching = new Fetching(path.join(folder, 'damaged'), ['s3://indices/'], { isHere: true });
    expect(await fetching.refusal('s3://indices/wiki', 'a')).toContain('see whether the file is damaged');
    // The digest of the parts of an upload is not one of the file.
    serve(200, { etag, 'x-amz-checksum-sha256': `${whole}-2` }, 'hallo');
    expect((await fetching.fetch('s3://indices/wiki', 'a')).files).toEqual({ 'words.txt': 'hallo' });
  });

  test('that lists in pages, with names in URL encoding or in XML, is read to the end', async () => {
    const asked: string[] = [];
    store.answer = ({ url = '' }, response) => {
      const query = new URL(url, store.url).searchParams;
      if (!query.has('list-type')) {
        response.writeHead(200, { etag }).end('hello');
        return true;
      }
      expect([query.get('list-type'), query.get('encoding-type')]).toEqual(['2', 'url']);
      const token = query.get('continuation-token') ?? '';
      asked.push(token);
      const page = Number(token.slice(5) || 0);
      const next = `<IsTruncated>true</IsTruncated><NextContinuationToken>to/+=${page + 1}</NextContinuationToken>`;
      const names = ['wiki/a/%C3%BC+%2B%26.txt', 'wiki/a/', 'wiki/b/x'];
      const encoding = '<EncodingType>url</EncodingType>';
      response.end(list(`${encoding}${entry(names[page] ?? '', 5)}${page < 2 ? next : ''}`));
      return true;
    };
    expect([...(await fetching.inspect('s3://indices/wiki')).keys()]).toEqual(['a', 'b']);
    expect(asked).toEqual(['', 'to/+=1', 'to/+=2']);
    store.answer = ({ url = '' }, response) => {
      if (url.includes('list-type=2')) response.end(list(entry('wiki/a/&lt;&amp;&#x27;+.txt', 5)));
      else response.writeHead(200, { etag }).end('hello');
      return true;
    };
    expect((await fetching.fetch('s3://indices/wiki', 'a')).files).toEqual({ "<&'+.txt": 'hello' });
  });

  test.each<[string, number, Record<string, string>, string]>([
    ['a file replaced', 412, {}, 'has changed while it was fetched'],
    ['a file replaced, by another ETag', 200, { etag: '"other"' }, 'has changed while it was fetched'],
    [
      'another region',
      301,
      { 'x-amz-bucket-region': 'eu-west-1' },
      'is in the region eu-west-1, and AWS_REGION is us-east-1',
    ],
    ['a wrong length', 200, { etag, 'content-length': '2' }, 'sends 2 bytes, and 5 were listed'],
  ])('that answers with %s is refused', async (_, status, headers, why) => {
    serve(status, headers, 'he');
    fetching = new Fetching(mkdtempSync(path.join(folder, 'store-')), ['s3://indices/'], { isHere: true });
    expect(await fetching.refusal('s3://indices/wiki', 'a')).toContain(why);
  });

  test.each([
    ['no XML', 'hello', 'is no list of S3 objects'],
    ['no size', list('<Contents><Key>wiki/a/x</Key></Contents>'), 'has a file without name, size or ETag'],
    ['a path upwards', list(entry('wiki/a/../../x', 1)), 'is not a plain path below the shard'],
    [
      'no end',
      list(`${entry('wiki/a/x', 1)}<IsTruncated>true</IsTruncated><NextContinuationToken>1</NextContinuationToken>`),
      'goes on without a new token',
    ],
  ])('whose list has %s is refused', async (_, body, why) => {
    store.answer = (_request, response) => {
      response.writeHead(200).end(body);
      return true;
    };
    await expect(fetching.inspect('s3://indices/wiki')).rejects.toThrow(why);
  });
});

describe('Credentials for S3', () => {
  let metadata: FileServer;
  beforeEach(async () => (metadata = await FileServer.start()));
  afterEach(async () => await metadata.end());
  const none = { HOME: '/nonexistent', AWS_EC2_METADATA_DISABLED: 'true' };
  const answer = (name: string): string =>
    JSON.stringify({
      AccessKeyId: name,
      SecretAccessKey: 'the-secret',
      Token: 'the-token',
      Expiration: new Date(Date.now() + 3_600_000).toISOString(),
    });
  const found = (name: string): object => ({
    accessKeyId: name,
    secretAccessKey: 'the-secret',
    sessionToken: 'the-token',
  });

  test('come from the environment first', async () => {
    const env = {
      ...none,
      AWS_ACCESS_KEY_ID: 'ENV',
      AWS_SECRET_ACCESS_KEY: 'the-secret',
      AWS_SESSION_TOKEN: 'the-token',
    };
    expect(await new AwsCredentials(env).get()).toMatchObject(found('ENV'));
  });

  test('come from a profile, with its region', async () => {
    const [credentials, config] = [path.join(folder, 'credentials'), path.join(folder, 'config')];
    writeFileSync(
      credentials,
      '# comment\n[default]\naws_access_key_id = DEFAULT\naws_secret_access_key=the-secret\naws_session_token=the-token\n\n[ other ]\naws_access_key_id=OTHER\naws_secret_access_key = the-secret\n  aws_session_token=no\n',
    );
    writeFileSync(
      config,
      '[default]\nregion=eu-central-1\n[profile other]\nregion = eu-west-3\n[profile sso]\nsso_session = x\n',
    );
    const env = { ...none, AWS_SHARED_CREDENTIALS_FILE: credentials, AWS_CONFIG_FILE: config };
    expect(await new AwsCredentials(env).get()).toMatchObject(found('DEFAULT'));
    expect(awsRegion(env)).toBe('eu-central-1');
    const other = { ...env, AWS_PROFILE: 'other' };
    expect(await new AwsCredentials(other).get()).toMatchObject({ accessKeyId: 'OTHER', sessionToken: undefined });
    expect([awsRegion(other), awsRegion({ ...other, AWS_REGION: 'us-west-1' })]).toEqual(['eu-west-3', 'us-west-1']);
    await expect(new AwsCredentials({ ...env, AWS_PROFILE: 'sso' }).get()).rejects.toThrow(
      'sso_session is not supported',
    );
    await expect(new AwsCredentials({ ...env, AWS_PROFILE: 'none' }).get()).rejects.toThrow(
      'the AWS profile none has no',
    );
  });

  test('come from the role of a container, asked for with its token, and are kept', async () => {
    metadata.files.set('/role', Buffer.from(answer('CONTAINER')));
    const tokens: (string | undefined)[] = [];
    metadata.answer = ({ headers }) => {
      tokens.push(headers.authorization);
      return false;
    };
    const file = path.join(folder, 'token');
    writeFileSync(file, 'from-a-file\n');
    const env = {
      ...none,
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${metadata.url}/role`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN: 'plain',
    };
    const credentials = new AwsCredentials(env);
    expect(await credentials.get()).toMatchObject(found('CONTAINER'));
    await credentials.get();
    await new AwsCredentials({ ...env, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file }).get();
    expect(tokens).toEqual(['plain', 'from-a-file']);
    await expect(
      new AwsCredentials({ ...env, AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://example.org/role' }).get(),
    ).rejects.toThrow('is neither https: nor an address of this machine');
  });

  test('come from the metadata of an instance, by IMDSv2 alone', async () => {
    const asked: string[] = [];
    metadata.answer = ({ method, url, headers }, response) => {
      asked.push(`${method} ${url} ${String(headers['x-aws-ec2-metadata-token'])}`);
      if (url === '/latest/api/token') response.end('session');
      else response.end(url?.endsWith('/security-credentials/') === true ? 'the-role\n' : answer('INSTANCE'));
      return true;
    };
    const env = { HOME: '/nonexistent', AWS_EC2_METADATA_SERVICE_ENDPOINT: metadata.url };
    expect(await new AwsCredentials(env).get()).toMatchObject(found('INSTANCE'));
    expect(asked).toEqual([
      'PUT /latest/api/token undefined',
      'GET /latest/meta-data/iam/security-credentials/ session',
      'GET /latest/meta-data/iam/security-credentials/the-role session',
    ]);
  });

  test('come from a web identity, whose token is not in a URL', async () => {
    const file = path.join(folder, 'identity');
    writeFileSync(file, 'identity-token');
    const bodies: string[] = [];
    metadata.answer = (request, response) => {
      expect(request.url).toBe('/');
      request.setEncoding('utf8').on('data', (text: string) => bodies.push(text));
      request.on('end', () =>
        response.end(
          `<AssumeRoleWithWebIdentityResponse><Credentials><AccessKeyId>WEB</AccessKeyId><SecretAccessKey>the-secret</SecretAccessKey><SessionToken>the-token</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResponse>`,
        ),
      );
      return true;
    };
    const env = {
      ...none,
      AWS_WEB_IDENTITY_TOKEN_FILE: file,
      AWS_ROLE_ARN: 'arn:role',
      AWS_ENDPOINT_URL_STS: `${metadata.url}/`,
    };
    expect(await new AwsCredentials(env).get()).toMatchObject(found('WEB'));
    expect(bodies.join()).toContain('WebIdentityToken=identity-token');
    await expect(new AwsCredentials({ ...env, AWS_WEB_IDENTITY_TOKEN_FILE: '/none' }).get()).rejects.toThrow(
      'AWS_WEB_IDENTITY_TOKEN_FILE names /none, which cannot be read or is empty',
    );
  });

  test('that are nowhere are described', async () => {
    await expect(new AwsCredentials(none).get()).rejects.toThrow('no credentials for S3: set AWS_ACCESS_KEY_ID');
  });
});
