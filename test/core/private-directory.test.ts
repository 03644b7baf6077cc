// Directories that only this user may enter: what is used, changed and refused, on the real file system.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ensurePrivateDirectory, findSocketBase, type KatamariError } from '../../core/mod.ts';
import { refusalOf } from '../kit/tools/rejection.ts';

import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';

let folder: string;
beforeEach(() => (folder = mkdtempSync('/tmp/katamari-private-')));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string): string => path.join(folder, name);
const isRoot = process.getuid?.() === 0;

function directory(name: string, mode: number): string {
  mkdirSync(at(name));
  chmodSync(at(name), mode);
  return at(name);
}

const LONG = 'x'.repeat(130);

describe('findSocketBase()', () => {
  test('takes TMPDIR, then XDG_RUNTIME_DIR, then /tmp', () => {
    const [first, second] = [directory('one', 0o700), directory('two', 0o700)];
    expect(findSocketBase({ TMPDIR: first, XDG_RUNTIME_DIR: second })).toEqual({ directory: first, skipped: [] });
    expect(findSocketBase({ TMPDIR: at('none'), XDG_RUNTIME_DIR: second })).toEqual({
      directory: second,
      skipped: [`${at('none')} does not exist`],
    });
    expect(findSocketBase({ TMPDIR: at('none') }).directory).toBe('/tmp');
  });

  test.each<[string, () => string, string]>([
    ['too long', () => directory(LONG, 0o700), 'is too long for sockets'],
    ['missing', () => at('none'), 'does not exist'],
    ['a file', () => (writeFileSync(at('file'), ''), at('file')), 'is not a directory'],
    ['below a file', () => (writeFileSync(at('file'), ''), at('file/x')), 'cannot be used: ENOTDIR'],
    ['writable by all without the sticky bit', () => directory('open', 0o777), 'has no sticky bit (mode 777)'],
  ])('does not take a TMPDIR that is %s', (_, make, why) => {
    const { directory: found, skipped } = findSocketBase({ TMPDIR: make() });
    expect(found).toBe('/tmp');
    expect(skipped.length).toBe(1);
    expect(skipped[0]).toContain(why);
  });

  test('takes a TMPDIR that is writable by all with the sticky bit', () => {
    expect(findSocketBase({ TMPDIR: directory('open', 0o1777) }).skipped).toEqual([]);
  });

  test.skipIf(!isRoot)('does not take a TMPDIR of another user', () => {
    const other = directory('other', 0o755);
    chownSync(other, 65_534, 65_534);
    expect(findSocketBase({ TMPDIR: other }).skipped[0]).toContain('belongs to user 65534');
  });

  test.skipIf(isRoot)('does not take a TMPDIR that is not writable', () => {
    expect(findSocketBase({ TMPDIR: directory('locked', 0o500) }).skipped[0]).toContain('is not writable');
  });
});

describe('ensurePrivateDirectory()', () => {
  const isOwn = (names: readonly string[]): boolean => names.includes('own');
  const modeOf = (name: string): number => statSync(at(name)).mode & 0o7777;
  const refusal = (name: string): Promise<KatamariError> =>
    refusalOf(Promise.resolve().then(() => ensurePrivateDirectory(at(name), isOwn)));

  test('makes a missing directory with its parents, for this user alone', () => {
    expect(ensurePrivateDirectory(at('a/b'), isOwn)).toBe('');
    expect([modeOf('a'), modeOf('a/b')]).toEqual([0o700, 0o700]);
    expect(ensurePrivateDirectory(at('a/b'), isOwn)).toBe('');
  });

  test('takes away the rights of others from an empty directory and from its own', () => {
    directory('empty', 0o755);
    expect(ensurePrivateDirectory(at('empty'), isOwn)).toContain('could be entered by other users (mode 755)');
    writeFileSync(path.join(directory('used', 0o770), 'own'), '');
    expect(ensurePrivateDirectory(at('used'), isOwn)).toContain('it is mode 700 now');
    expect([modeOf('empty'), modeOf('used')]).toEqual([0o700, 0o700]);
  });

  test('refuses a directory with files of others, a file, and one that cannot be made, and changes nothing', async () => {
    writeFileSync(path.join(directory('home', 0o755), 'letter'), '');
    expect((await refusal('home')).message).toContain('has files of other programs: choose a directory');
    expect(modeOf('home')).toBe(0o755);
    writeFileSync(at('file'), '');
    expect((await refusal('file')).message).toContain('is not a directory');
    expect((await refusal('file/x')).message).toContain('ENOTDIR');
    expect((await refusal('y'.repeat(300))).message).toContain('ENAMETOOLONG');
    expect(existsSync(at('file/x'))).toBe(false);
  });

  test.skipIf(!isRoot)('refuses a directory of another user', async () => {
    chownSync(directory('other', 0o700), 65_534, 65_534);
    expect((await refusal('other')).message).toContain('belongs to user 65534, and this process runs as user 0');
  });
});
