// Files that hold a secret of the mesh: the link secret, the admin token, the token of the embedded Consul. A file
// has one secret, or two while a secret is rotated, one per line: the first is used, both are accepted. A missing file
// of the data directory is created with a random secret and mode 0600.
//
// A file that other users can read, or whose content can be guessed, is refused: whoever knows the link secret can run
// commands as the user of the mesh.

import { ExitError, EXIT } from './exit-error.ts';
import { randomBytes, randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** The secrets in one file. The first is used, all are accepted. */
export type Secrets = readonly [string, ...string[]];

/**
 * Reads a secret file.
 * @param key key of the configuration that names the file, for messages
 * @throws ExitError with the reason and the command that corrects it
 */
export function readSecretFile(key: string, file: string): Secrets {
  const refuse = (why: string, cause?: unknown): ExitError =>
    new ExitError(EXIT.badConfiguration, `${key}: ${file} ${why}`, cause);
  let text: string;
  try {
    const facts = statSync(file);
    if (!facts.isFile()) throw refuse('is not a file, expected a file with a secret');
    if (facts.size > FILE_BYTES_MAX)
      throw refuse(
        `has ${facts.size} bytes, limit is ${FILE_BYTES_MAX}; expected a file with a secret in its first line`,
      );
    if ((facts.mode & OTHERS) !== 0) {
      const mode = (facts.mode & 0o777).toString(8).padStart(4, '0');
      throw refuse(`has mode ${mode}, so every user of this machine can use it; run: chmod 600 ${file}`);
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof ExitError) throw error;
    throw refuse(`cannot be read: ${(error as Error).message}`, error);
  }
  const [first = '', ...others] = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  if (others.length >= SECRETS_MAX)
    throw refuse(`has ${others.length + 1} secrets, expected one, or two during a rotation`);
  for (const secret of [first, ...others]) {
    const why = whyWeakSecret(secret);
    if (why !== undefined) throw refuse(`${why}; generate a secret with: openssl rand -hex 32`);
  }
  return [first, ...others];
}

/**
 * Reads a secret file, or creates it with a random secret if it is missing. Processes that start at the same time get
 * the same secret.
 * @throws ExitError
 */
export function ensureSecretFile(key: string, file: string): Secrets {
  try {
    statSync(file);
  } catch {
    create(key, file);
  }
  return readSecretFile(key, file);
}

/** Returns why a secret could be guessed; undefined if it could not. */
export function whyWeakSecret(secret: string): string | undefined {
  if (secret.length < SECRET_LENGTH_MIN)
    return `has a secret of ${secret.length} characters, expected at least ${SECRET_LENGTH_MIN}`;
  if (!/^[\x21-\x7e]*$/.test(secret)) return 'has a secret with characters other than printable ASCII';
  const distinct = new Set(secret).size;
  if (distinct >= DISTINCT_MIN) return undefined;
  return `has a secret of only ${distinct} different characters, expected at least ${DISTINCT_MIN}`;
}

/** The file appears whole: another process reads either nothing or the secret. */
function create(key: string, file: string): void {
  const draft = `${file}.${randomUUID()}`;
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(draft, `${randomBytes(SECRET_BYTES).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' });
    try {
      linkSync(draft, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      unlinkSync(draft);
    }
  } catch (error) {
    const why = `cannot be created: ${(error as Error).message}. Correct dataDir, or create the file`;
    throw new ExitError(EXIT.badConfiguration, `${key}: ${file} ${why}`, error);
  }
}

/** Shorter secrets can be guessed by somebody who records a handshake. */
const SECRET_LENGTH_MIN = 16;
/** A random text of 16 characters has more, in any alphabet that tools use. */
const DISTINCT_MIN = 6;
const SECRETS_MAX = 2;
const SECRET_BYTES = 32;
const FILE_BYTES_MAX = 4_096;
/** Permission bits of users who are neither the owner nor in the group of a file. */
const OTHERS = 0o007;
