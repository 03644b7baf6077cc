// Shards in HDFS, from a small server that follows Hadoop's documentation of WebHDFS.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TestEnvironment } from '../../kit/content/environment.ts';
import { Fetching } from '../../kit/content/fetching.ts';
import { WebHdfs } from '../../kit/content/web-hdfs.ts';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

let folder: string;
let hdfs: WebHdfs;
let fetching: Fetching;
let source: string;
const environment = new TestEnvironment();
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-hdfs-source-'));
  hdfs = await WebHdfs.start();
  source = `${hdfs.url}/user/wiki`;
  fetching = new Fetching(path.join(folder, 'store'), [`${hdfs.url}/user`], { isHere: true });
  environment.set({ HADOOP_USER_NAME: 'katta', WEBHDFS_DELEGATION_TOKEN: undefined });
  hdfs.write('/user/wiki/a/words.txt', 'hello');
  hdfs.write('/user/wiki/a/deep/er/ü +&%.txt', 'there');
  hdfs.write('/user/wiki/a/empty', '');
  hdfs.write('/user/wiki/c.db', 'one file');
  hdfs.write('/user/wiki/_SUCCESS', '');
});
afterEach(async () => {
  environment.restore();
  await hdfs.end();
  rmSync(folder, { recursive: true, force: true });
});

const A = { 'words.txt': 'hello', 'deep/er/ü +&%.txt': 'there', empty: '' };

describe('An HDFS source', () => {
  test.each(['json', 'redirect', 'bytes'] as const)(
    'is listed and fetched where OPEN answers with %s',
    async (open) => {
      hdfs.open = open;
      expect([...(await fetching.inspect(source)).keys()]).toEqual(['a', 'c.db']);
      expect((await fetching.fetch(source, 'a')).files).toEqual(A);
      expect((await fetching.fetch(source, 'c.db')).files).toEqual({ '': 'one file' });
      expect(hdfs.requests.every((one) => one.includes('user.name=katta'))).toBe(true);
    },
  );

  test('is read by the fetch process too, with its token instead of a user', async () => {
    environment.set({ WEBHDFS_DELEGATION_TOKEN: 'secret-token' });
    hdfs.allowed = ['secret-token'];
    const apart = new Fetching(path.join(folder, 'apart'), [`${hdfs.url}/user`]);
    expect((await apart.fetch(source, 'a')).files).toEqual(A);
    expect(hdfs.requests.every((one) => !one.includes('user.name'))).toBe(true);
  });

  test('of which a connection breaks at every tenth of a file goes on where it broke', async () => {
    const content = randomBytes(1_000_000);
    hdfs.write('/user/wiki/b/large.bin', content);
    hdfs.breaks = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((tenth) => tenth * 100_000);
    const { files } = await fetching.fetch(source, 'b');
    expect(files['large.bin'] === content.toString('latin1')).toBe(true);
    expect(hdfs.breaks).toEqual([]);
    const offsets = hdfs.requests.filter((one) => one.includes('op=OPEN')).map((one) => /offset=(\d+)/.exec(one)?.[1]);
    expect(offsets.length).toBe(10);
    expect(offsets[0]).toBe('0');
    expect(Number(offsets[9])).toBeGreaterThan(0);
  }, 30_000);

  test('that has changed since it was added is refused', async () => {
    const digest = (await fetching.inspect(source)).get('a') as string;
    hdfs.write('/user/wiki/a/words.txt', 'Hello');
    expect(await fetching.refusal(source, 'a', { digest })).toContain('has changed since it was added');
  });

  test('that may not be read, is on a standby or does not exist says so', async () => {
    await expect(fetching.inspect(`${hdfs.url}/user/none`)).rejects.toThrow(
      `${hdfs.url}/user/none does not exist (FileNotFoundException)`,
    );
    await expect(fetching.inspect(`${source}/c.db`)).rejects.toThrow('is a file, expected a folder of shards');
    hdfs.allowed = ['other'];
    await expect(fetching.inspect(source)).rejects.toThrow('may not be read by the HDFS user of this manager');
    hdfs.isStandby = true;
    await expect(fetching.inspect(source)).rejects.toThrow('is on a standby NameNode; name the active one');
  });

  test('whose NameNode sends readers elsewhere is refused, and no secret is shown', async () => {
    environment.set({ WEBHDFS_DELEGATION_TOKEN: 'secret-token' });
    const digest = (await fetching.inspect(source)).get('a') as string;
    for (const location of [
      'file:///etc/passwd',
      'http://127.0.0.1/admin',
      'http://user:pass@127.0.0.1/webhdfs/v1/',
      'x',
    ]) {
      hdfs.location = location;
      for (const open of ['json', 'redirect'] as const) {
        hdfs.open = open;
        const why = await fetching.refusal(source, 'a', { digest });
        expect(why).toContain('was sent to a place that is no DataNode');
        expect(why).not.toMatch(/secret-token|pass@/);
      }
    }
    // A DataNode that is down, whose URL has the token in its query.
    hdfs.location = 'http://127.0.0.1:1/webhdfs/v1/user/wiki/a/words.txt?op=OPEN&delegation=secret-token';
    const why = await fetching.refusal(source, 'a', { digest });
    expect(why).toContain('127.0.0.1:1/webhdfs/v1/user/wiki/a/');
    expect(why).toContain('cannot be reached: ');
    expect(why).not.toContain('secret');
  }, 30_000);
});
