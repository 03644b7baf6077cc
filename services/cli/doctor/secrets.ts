// Checks of secrets: the files that hold them, those that are written in the configuration, and the configuration
// file itself. Whoever reads a secret of the mesh can run commands as its user, and so can whoever writes the file.

import { existsSync, statSync, type Stats } from 'node:fs';
import os from 'node:os';
import { type Config, type LoadedConfig, readSecretFile, whyWeakSecret } from '../../config/mod.ts';
import { fail, ok, warn, type Finding } from './finding.ts';

/** One secret of the mesh. */
interface MeshSecret {
  readonly subject: string;
  /** Keys of the secret itself and of its file. */
  readonly key: string;
  readonly fileKey: string;
  /** '' if the file has it. */
  readonly text: string;
  /** '' for none. */
  readonly file: string;
  /** Whether `katamari up` creates a missing file. */
  readonly isCreated: boolean;
}

/** Checks the files of the secrets as a start does. A missing file of the data directory is created by the start. */
export function checkSecretFiles(config: Config): Finding[] {
  return secretsOf(config).flatMap((secret) =>
    secret.text === '' ? checkFile(secret) : [ok(secret.subject, 'set in the configuration')],
  );
}

/** Checks the secrets wherever they are. @param file absolute path of the configuration; undefined for none */
export function checkSecrets({ config, settings }: LoadedConfig, file: string | undefined): Finding[] {
  return secretsOf(config).flatMap((secret) => {
    if (secret.text === '') return checkFile(secret);
    const from = settings.find(({ key }) => key === secret.key)?.from ?? 'default';
    return [checkWritten(secret, from, file)];
  });
}

/** Whoever can write the configuration decides what the mesh runs. */
export function checkConfigFile(file: string): Finding[] {
  const subject = 'configuration';
  const stats = statOf(file);
  if (stats === undefined) return [];
  const stranger = strangerOf(stats);
  if (stranger !== undefined) {
    const text = `${file} belongs to ${stranger}, who decides by it what the mesh runs as this user`;
    return [fail(subject, text, `chown ${userName()} ${file}`)];
  }
  if ((stats.mode & OTHERS_WRITE) === 0) return [ok(subject, `${file}, closed to changes by other users`)];
  const text = `${file} has mode ${modeOf(stats)}: every user of this machine decides by it what the mesh runs`;
  return [fail(subject, text, `chmod o-w ${file}`)];
}

/** Whether every user of the machine can read a file. */
export function isReadByOthers(file: string): boolean {
  return ((statOf(file)?.mode ?? 0) & OTHERS_READ) !== 0;
}

/**
 * The name of the user that owns a file, if it is neither root nor the user of this process, who both can do
 * everything anyway.
 */
export function strangerOf({ uid }: Stats): string | undefined {
  const own = process.geteuid?.() ?? uid;
  return uid === own || uid === 0 ? undefined : `user ${uid}`;
}

export function statOf(file: string): Stats | undefined {
  return statSync(file, { throwIfNoEntry: false });
}

/** `0644` */
export function modeOf({ mode }: Stats): string {
  return (mode & 0o777).toString(8).padStart(4, '0');
}

export function userName(): string {
  try {
    return os.userInfo().username;
  } catch {
    return String(process.geteuid?.() ?? '');
  }
}

function checkFile({ subject, fileKey, file, isCreated }: MeshSecret): Finding[] {
  if (file === '') return [];
  if (!existsSync(file)) {
    return isCreated
      ? [ok(subject, `${file} will be created by \`katamari up\``)]
      : [fail(subject, `${fileKey}: ${file} does not exist`, `correct ${fileKey}`)];
  }
  try {
    const [first, ...others] = readSecretFile(fileKey, file);
    const stats = statSync(file);
    const stranger = strangerOf(stats);
    if (stranger !== undefined) {
      const text = `${file} belongs to ${stranger}, who can read and replace the secret`;
      return [fail(subject, text, `chown ${userName()} ${file}, and write a new secret into it`)];
    }
    if (subject === ADMIN && first.length < ROOT_TOKEN_CHARS_MIN) {
      return [warn(subject, `${file} has ${shortToken(first)}`, `put the output of openssl rand -hex 32 into ${file}`)];
    }
    const rotation = others.length === 0 ? '' : '; it has two secrets, so a rotation is in progress';
    return [ok(subject, `${file}, closed to other users${rotation}`)];
  } catch (error) {
    return [fail(subject, (error as Error).message, `correct ${fileKey}`)];
  }
}

/** @param from as `katamari config` prints it: `katamari.yaml:12`, `env KATAMARI_TOKEN`, `flag --set` */
function checkWritten({ subject, key, fileKey, text }: MeshSecret, from: string, file: string | undefined): Finding {
  const advice = `remove ${key}, and name a file with mode 600 in ${fileKey}`;
  const weak = whyWeakSecret(text);
  if (weak !== undefined) {
    const why = `${from}: ${key} ${weak}, so it can be guessed`;
    return fail(subject, why, 'generate one with: openssl rand -hex 32');
  }
  if (from.startsWith('flag')) {
    return fail(subject, `${key} is on the command line: every user of this machine can read it there`, advice);
  }
  if (from.startsWith('env')) {
    return warn(
      subject,
      `${key} is in the environment: programs that the user starts and crash reports have it`,
      advice,
    );
  }
  if (file !== undefined && isReadByOthers(file)) {
    return fail(subject, `${from}: ${key} is in a file that every user of this machine can read`, `chmod 600 ${file}`);
  }
  if (subject === ADMIN && text.length < ROOT_TOKEN_CHARS_MIN) {
    return warn(subject, `${from}: ${key} has ${shortToken(text)}`, 'generate one with: openssl rand -hex 32');
  }
  return ok(subject, `set in ${from}, closed to other users`);
}

function shortToken(token: string): string {
  return `only ${token.length} characters: wrong tokens from the address of its owner can lock it out, which ${ROOT_TOKEN_CHARS_MIN} characters exclude`;
}

function secretsOf({ admin, link, consul }: Config): readonly MeshSecret[] {
  const of = (subject: string, section: string, name: string, text: string, file: string): MeshSecret => ({
    subject,
    key: `${section}.${name}`,
    fileKey: `${section}.${name}File`,
    text,
    file,
    isCreated: section !== 'consul' || consul.embedded,
  });
  return [
    of(ADMIN, 'admin', 'token', admin.token, admin.tokenFile),
    of('link secret', 'link', 'secret', link.secret, link.secretFile),
    of('Consul token', 'consul', 'token', consul.token, consul.tokenFile),
  ];
}

const ADMIN = 'admin token';
/** A shorter root token is refused from an address that sent too many wrong tokens, see docs/audit.md. */
const ROOT_TOKEN_CHARS_MIN = 32;
const OTHERS_READ = 0o004;
/** Permission of users who are neither the owner nor in the group of a file. */
export const OTHERS_WRITE = 0o002;
