// Directories that only this user may enter: the one for the sockets of chassis, and data directories. Who can write
// to a socket can call a chassis, and who can write to a data directory decides what the mesh runs.

import { accessSync, chmodSync, constants, mkdirSync, readdirSync, statSync, type Stats } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { KatamariError } from './errors.ts';

/** Longest path of a Unix socket in bytes; longer ones are refused, or cut silently by some runtimes. */
export const SOCKET_PATH_BYTES_MAX: number = process.platform === 'darwin' ? 103 : 107;

/** Where a private directory for sockets can be made. */
export interface SocketBase {
  readonly directory: string;
  /** Why directories that come first, such as TMPDIR, are not used; one sentence each. */
  readonly skipped: readonly string[];
}

/**
 * Returns the first of TMPDIR, XDG_RUNTIME_DIR and /tmp in which sockets can be made safely.
 * @throws KatamariError bad_request when there is none
 */
export function findSocketBase(env: NodeJS.ProcessEnv = process.env): SocketBase {
  const skipped: string[] = [];
  const runtime = env['XDG_RUNTIME_DIR'] ?? '';
  const candidates = [env['TMPDIR'] || tmpdir(), ...(path.isAbsolute(runtime) ? [runtime] : []), '/tmp'];
  for (const candidate of new Set(candidates.map((one) => path.resolve(one)))) {
    const why = whyNoSocketsIn(candidate);
    if (why === undefined) return { directory: candidate, skipped };
    skipped.push(`${candidate} ${why}`);
  }
  throw new KatamariError(
    'bad_request',
    `There is no directory for the sockets of chassis: ${skipped.join('; ')}. Set TMPDIR to a short path of a directory that only this user can write to`,
  );
}

/** Returns why sockets must not be made below a directory, as the end of a sentence. */
function whyNoSocketsIn(directory: string): string | undefined {
  const bytes = Buffer.byteLength(directory);
  if (bytes > BASE_BYTES_MAX) return `is too long for sockets: it has ${bytes} bytes, limit is ${BASE_BYTES_MAX}`;
  const stats = statOf(directory);
  if (typeof stats === 'string') return stats;
  if (!stats.isDirectory()) return 'is not a directory';
  const uid = process.geteuid?.() ?? stats.uid;
  // The owner of a directory can replace what others have made in it, even with the sticky bit.
  if (stats.uid !== 0 && stats.uid !== uid) return `belongs to user ${stats.uid}, who could replace the sockets`;
  if ((stats.mode & OTHERS_WRITE) !== 0 && (stats.mode & STICKY) === 0)
    return `is writable by every user and has no sticky bit (mode ${modeOf(stats)}), so others could replace the sockets`;
  return whyNotWritable(directory);
}

/**
 * Makes a directory that only this user can enter, or checks one that exists. Takes away the rights of others if the
 * directory is empty or has been made for this purpose.
 * @param isOwn tells by the names in the directory that it was made for this purpose
 * @returns what was changed, as a sentence; '' for nothing
 * @throws KatamariError bad_request that says what is wrong and how to correct it
 */
export function ensurePrivateDirectory(directory: string, isOwn: (names: readonly string[]) => boolean): string {
  const found = examinePrivateDirectory(directory, isOwn);
  if (found.refused !== '') throw new KatamariError('bad_request', found.refused);
  if (found.isMissing) {
    try {
      mkdirSync(directory, { recursive: true, mode: PRIVATE });
    } catch (error) {
      throw new KatamariError('bad_request', `${directory} cannot be made: ${(error as Error).message}`, {}, error);
    }
  } else if (found.change !== '') chmodSync(directory, PRIVATE);
  return found.change;
}

export interface DirectoryFindings {
  readonly isMissing: boolean;
  /** Why it cannot be used, and the remedy; '' if it can. */
  readonly refused: string;
  /** What `ensurePrivateDirectory` will change; '' for nothing. */
  readonly change: string;
}

/** Checks a directory without changing it. */
export function examinePrivateDirectory(
  directory: string,
  isOwn: (names: readonly string[]) => boolean,
): DirectoryFindings {
  const found = { isMissing: false, refused: '', change: '' };
  const stats = statOf(directory);
  if (stats === MISSING) return { ...found, isMissing: true };
  if (typeof stats === 'string') return { ...found, refused: `${directory} ${stats}` };
  if (!stats.isDirectory()) return { ...found, refused: `${directory} is not a directory; choose another` };
  const uid = process.geteuid?.() ?? stats.uid;
  if (stats.uid !== uid) {
    const refused = `${directory} belongs to user ${stats.uid}, and this process runs as user ${uid}: chown it, or choose another`;
    return { ...found, refused };
  }
  const why = whyNotWritable(directory);
  if (why !== undefined) return { ...found, refused: `${directory} ${why}` };
  if ((stats.mode & OTHERS) === 0) return found;
  const names = readdirSync(directory);
  const mode = `mode ${modeOf(stats)}`;
  if (names.length > 0 && !isOwn(names)) {
    const refused = `${directory} can be entered by other users (${mode}) and has files of other programs: choose a directory for this process alone, or run chmod 700 ${directory}`;
    return { ...found, refused };
  }
  return { ...found, change: `${directory} could be entered by other users (${mode}); it is mode 700 now` };
}

function statOf(file: string): Stats | string {
  try {
    return statSync(file);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? MISSING : `cannot be used: ${message}`;
  }
}

function whyNotWritable(directory: string): string | undefined {
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return `is not writable: ${(error as NodeJS.ErrnoException).code}`;
  }
}

function modeOf({ mode }: Stats): string {
  return (mode & 0o7777).toString(8);
}

const MISSING = 'does not exist';
const PRIVATE = 0o700;
const OTHERS = 0o077;
const OTHERS_WRITE = 0o002;
const STICKY = 0o1000;
/** `katamari-XXXXXX`, and the longest name of a socket in it, each with its slash. */
const BASE_BYTES_MAX = SOCKET_PATH_BYTES_MAX - '/katamari-XXXXXX'.length - '/1234567890/chassis.sock'.length;
