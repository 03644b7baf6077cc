// Shards that are zip archives: unpacked when they are honest, refused when they are hostile or damaged.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fetching } from '../../kit/content/fetching.ts';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { ZipFile } from 'yazl';

let folder: string;
let fetching: Fetching;
let source: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-unzip-'));
  mkdirSync(path.join(folder, 'wiki'));
  source = pathToFileURL(path.join(folder, 'wiki')).href;
  fetching = new Fetching(path.join(folder, 'store'), [source], { isHere: true });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface Packed {
  readonly name: string;
  readonly content: string | Buffer;
  readonly mode?: number;
  readonly isStored?: boolean;
}

async function zipOf(files: readonly Packed[]): Promise<Buffer> {
  const zip = new ZipFile();
  for (const { name, content, mode = 0o100644, isStored = false } of files)
    zip.addBuffer(Buffer.from(content), name, { mode, compress: !isStored });
  zip.end();
  return await buffer(zip.outputStream);
}

/** Replaces a text in the archive, in both headers of the file, by another one of the same length. */
function patched(zip: Buffer, from: string, to: string): Buffer {
  const copy = Buffer.from(zip);
  for (let at = copy.indexOf(from); at !== -1; at = copy.indexOf(from, at + 1)) copy.write(to, at, 'latin1');
  return copy;
}

/** Changes a number in the first entry of the central directory. */
function withField(zip: Buffer, offset: number, value: number, bytes: 2 | 4): Buffer {
  const copy = Buffer.from(zip);
  const at = copy.indexOf(Buffer.from([0x50, 0x4b, 1, 2])) + offset;
  copy.writeUIntLE(value, at, bytes);
  return copy;
}

async function fetchZip(zip: Buffer): Promise<Readonly<Record<string, string>>> {
  writeFileSync(path.join(folder, 'wiki/part-0.zip'), zip);
  return (await fetching.fetch(source, 'part-0.zip')).files;
}

async function refusal(zip: Buffer): Promise<string> {
  const why = await fetchZip(zip).then(
    () => 'it was fetched',
    (error: Error) => error.message,
  );
  expect(existsSync(path.join(fetching.partPath('part-0.zip'), 'content'))).toBe(false);
  expect(existsSync(path.join(fetching.partPath('part-0.zip'), 'content.unpacking'))).toBe(false);
  return why;
}

const HONEST = [
  { name: 'segments_1', content: 'hello', isStored: true },
  { name: 'deep/er/_0.cfs', content: 'there '.repeat(10_000) },
];

describe('A shard that is a zip archive', () => {
  test('is unpacked, and its record has the files that came out', async () => {
    expect(await fetchZip(await zipOf(HONEST))).toEqual({
      segments_1: 'hello',
      'deep/er/_0.cfs': 'there '.repeat(10_000),
    });
    const id = { indexVersion: 'wiki@1.0.0', name: 'part-0.zip' };
    expect(fetching.store.recordOf(id)?.files.map((file) => [file.path, file.bytes])).toEqual([
      ['deep/er/_0.cfs', 60_000],
      ['segments_1', 5],
    ]);
    expect(existsSync(path.join(fetching.store.livePath(id), 'spool.zip'))).toBe(false);
  });

  test.each<[string, (zip: Buffer) => Buffer | Promise<Buffer>, string]>([
    ['a path upwards', (zip) => patched(zip, 'segments_1', '../segm_12'), 'invalid relative path'],
    ['a path upwards inside', (zip) => patched(zip, 'segments_1', 'aa/../../x'), 'invalid relative path'],
    ['an absolute path', (zip) => patched(zip, 'segments_1', '/segment_1'), 'absolute path'],
    ['a drive', (zip) => patched(zip, 'segments_1', 'C:/segment'), 'absolute path'],
    ['a backslash', (zip) => patched(zip, 'segments_1', '..\\segm_12'), 'invalid characters in fileName'],
    ['a step that is a dot', (zip) => patched(zip, 'segments_1', './segments'), 'is not a plain path below the shard'],
    ['a NUL', (zip) => patched(zip, 'segments_1', 'segment\u0000s1'), 'has a backslash or a control character'],
    ['a folder that is a file', (zip) => patched(zip, 'segments_1', 'deep/er/_0'), 'it was fetched'],
    [
      'an encrypted file',
      async () => withField(await zipOf([{ name: 'x', content: 'hello' }]), 8, 1, 2),
      'is encrypted',
    ],
    ['another method', (zip) => withField(zip, 10, 12, 2), 'is packed with method 12'],
    ['a wrong checksum', (zip) => withField(zip, 16, 12_345, 4), 'its checksum is another one'],
    ['files that overlap', (zip) => withField(withField(zip, 20, 1_000_000, 4), 24, 1_000_000, 4), 'its files overlap'],
    ['a size that is too small', (zip) => withField(withField(zip, 20, 4, 4), 24, 4, 4), 'is damaged'],
    ['its end cut off', (zip) => zip.subarray(0, -30), 'of central directory record signature not found'],
    ['nothing in it', () => Buffer.from('504b0506000000000000000000000000000000000000', 'hex'), 'has no files'],
    ['no archive', () => Buffer.from('hello'), 'cannot be unpacked'],
  ])('with %s is judged', async (_, change, why) => {
    const zip = await change(await zipOf([{ name: 'segments_1', content: 'hello', isStored: true }]));
    if (why === 'it was fetched') expect(await fetchZip(zip)).toEqual({ 'deep/er/_0': 'hello' });
    else expect(await refusal(zip)).toContain(why);
  });

  test.each<[string, readonly Packed[], string]>([
    ['a link', [{ name: 'link', content: '/etc/passwd', mode: 0o120777 }], '"link" in it is no plain file but a link'],
    ['a device', [{ name: 'null', content: '', mode: 0o020666 }], '"null" in it is no plain file'],
    [
      'a file twice',
      [
        { name: 'x', content: '1' },
        { name: 'x', content: '2' },
      ],
      'is there twice',
    ],
    [
      'a file that is a folder too',
      [
        { name: 'x', content: '1' },
        { name: 'x/y', content: '2' },
      ],
      'both as a file and as a folder',
    ],
    ['folders too deep', [{ name: `${'d/'.repeat(17)}x`, content: '1' }], 'is more than 16 folders deep'],
    ['a name too long', [{ name: 'x'.repeat(300), content: '1' }], 'has a name of more than 255 bytes'],
    ['a bomb', [{ name: 'zeros', content: Buffer.alloc(32 * 1024 * 1024) }], 'more than 100 times its own'],
  ])('with %s is refused', async (_, files, why) => {
    expect(await refusal(await zipOf(files))).toContain(why);
  });

  test('that says it has less than it has is stopped at what it says', async () => {
    const zip = await zipOf([{ name: 'zeros', content: Buffer.alloc(32 * 1024 * 1024) }]);
    // The size in the directory is 1,000 bytes: the ratio is honest, the content is not.
    expect(await refusal(withField(zip, 24, 1_000, 4))).toContain('is damaged: too many bytes in the stream');
  });

  test('with more entries than the limit is refused', async () => {
    const files = Array.from({ length: 10_001 }, (_, n) => ({ name: `f${n}`, content: '', isStored: true }));
    expect(await refusal(await zipOf(files))).toContain('has 10001 files, the limit is 10000');
  });
});
