import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ensureSecretFile, readSecretFile } from '../../../services/config/secret-file.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'katamari-secrets-'));
afterAll(() => rmSync(directory, { recursive: true }));
const GOOD = 'b7e23ec29af22b0b4e41da31e868d572';
const OTHER = '9f86d081884c7d659a2feaa0c55ad015';

function fileWith(text: string | Buffer, mode = 0o600): string {
  const file = path.join(directory, `secret-${readdirSync(directory).length}`);
  writeFileSync(file, text, { mode });
  chmodSync(file, mode);
  return file;
}

describe('ensureSecretFile()', () => {
  test('creates a missing file with a random secret that only its owner can read, in folders of its own', () => {
    const file = path.join(directory, 'data', 'mesh', 'link-secret');
    const [secret, ...others] = ensureSecretFile('link.secretFile', file);
    expect(secret).toMatch(/^[\w-]{43}$/);
    expect(others).toEqual([]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(path.dirname(file)).mode & 0o777).toBe(0o700);
    expect(ensureSecretFile('link.secretFile', file)).toEqual([secret]);
    expect(readdirSync(path.dirname(file))).toEqual(['link-secret']);
    expect(ensureSecretFile('link.secretFile', path.join(directory, 'another'))).not.toEqual([secret]);
  });

  test('never replaces a file that it cannot use', () => {
    const file = fileWith('short\n');
    expect(() => ensureSecretFile('link.secretFile', file)).toThrow(/has a secret of 5 characters/);
    expect(readFileSync(file, 'utf8')).toBe('short\n');
  });

  test('names a folder in which it cannot create the file', () => {
    const file = path.join(fileWith(GOOD), 'below', 'secret');
    expect(() => ensureSecretFile('admin.tokenFile', file)).toThrow(
      /^admin\.tokenFile: .*secret cannot be created: .*/,
    );
  });
});

describe('readSecretFile()', () => {
  test('reads one secret, or two during a rotation, whatever the line ends', () => {
    expect(readSecretFile('link.secretFile', fileWith(GOOD))).toEqual([GOOD]);
    expect(readSecretFile('link.secretFile', fileWith(`\n ${GOOD}\r\n\n${OTHER}\n`))).toEqual([GOOD, OTHER]);
    expect(readSecretFile('link.secretFile', fileWith(GOOD, 0o640))).toEqual([GOOD]);
  });

  const refused: readonly (readonly [what: string, file: () => string, why: RegExp])[] = [
    ['a missing file', () => path.join(directory, 'none'), /cannot be read: ENOENT/],
    ['a folder', () => (mkdirSync(path.join(directory, 'folder')), path.join(directory, 'folder')), /is not a file/],
    ['an empty file', () => fileWith(''), /has a secret of 0 characters, expected at least 16/],
    ['three characters', () => fileWith('abc\n'), /has a secret of 3 characters, expected at least 16/],
    ['zeros', () => fileWith('0'.repeat(64)), /only 1 different characters, expected at least 6/],
    ['zero bytes', () => fileWith(Buffer.alloc(64)), /characters other than printable ASCII/],
    ['a password typed twice', () => fileWith('abababababababab'), /only 2 different characters/],
    ['a second secret that is weak', () => fileWith(`${GOOD}\nabc\n`), /has a secret of 3 characters/],
    ['three secrets', () => fileWith(`${GOOD}\n${OTHER}\n${GOOD}1\n`), /has 3 secrets, expected one, or two/],
    ['bytes of a key', () => fileWith(Buffer.from(GOOD, 'hex')), /secret (of \d+ characters|with characters other)/],
    ['a file that others can read', () => fileWith(GOOD, 0o644), /has mode 0644.*run: chmod 600 \//],
    ['a file that others can change', () => fileWith(GOOD, 0o602), /has mode 0602.*run: chmod 600 \//],
    ['a large file', () => fileWith(`${GOOD}\n`.repeat(1_000)), /has 33000 bytes, limit is 4096/],
  ];
  for (const [what, file, why] of refused) {
    test(`refuses ${what}, with the key, the file and the remedy`, () => {
      const at = file();
      expect(() => readSecretFile('link.secretFile', at)).toThrow(why);
      expect(() => readSecretFile('link.secretFile', at)).toThrow(`link.secretFile: ${at} `);
    });
  }
});
