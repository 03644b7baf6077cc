// Runs a chassis as another user, with other groups, file mode creation mask, resource limits and without new
// privileges. The programs prlimit and setpriv of util-linux do it, one after the other in place: each replaces itself
// by the next, so the process keeps its id. Runtimes differ in what they can change themselves, and none can do all.

import type { Isolation } from '../mesh/mod.ts';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** A user of this machine. */
export interface Identity {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

/**
 * Returns the user of an isolation; undefined when it names none, or the user of this process.
 * @throws Error that says what is wrong: no such user, or no right to become that user
 */
export function identityOf({ user, group }: Isolation): Identity | undefined {
  if (user === '') return undefined;
  const [name = user, , uid = '', primary = '', , home = '/'] = lookUp('passwd', user, 'user');
  const gid = group === '' ? primary : (lookUp('group', group, 'group')[2] ?? '');
  const identity = { name, uid: Number(uid), gid: Number(gid), home };
  if (identity.uid === process.geteuid?.() && identity.gid === process.getegid?.()) return undefined;
  if (!mayChangeUser()) {
    const own = `${process.geteuid?.()}`;
    throw new Error(
      `it cannot run as user ${name}: the mesh runs as user ${own}, and only root (or CAP_SETUID with CAP_SETGID) may change the user`,
    );
  }
  return identity;
}

/** @throws Error when the system lacks a program that it takes */
export function isolatedCommand(
  command: readonly string[],
  { groups, umask, noNewPrivileges, limits }: Isolation,
  identity: Identity | undefined,
): readonly string[] {
  const entries = Object.entries(OPTION_OF_LIMIT) as [keyof Isolation['limits'], string][];
  const limitArgs = entries.flatMap(([name, option]) => {
    const value = limits[name];
    return value === null ? [] : [`--${option}=${value}:${value}`];
  });
  const groupArgs =
    groups === null ? ['--init-groups'] : groups.length === 0 ? ['--clear-groups'] : ['--groups', groupIds(groups)];
  const privilegeArgs = [
    ...(identity === undefined ? [] : ['--reuid', `${identity.uid}`, '--regid', `${identity.gid}`, ...groupArgs]),
    // A process that was root keeps no capability, also none that a program could inherit.
    ...(identity === undefined ? [] : ['--inh-caps', '-all']),
    ...(noNewPrivileges ? ['--no-new-privs'] : []),
  ];
  return [
    ...(limitArgs.length === 0 ? [] : [PRLIMIT, ...limitArgs, '--']),
    ...(privilegeArgs.length === 0 ? [] : [SETPRIV, ...privilegeArgs, '--']),
    ...(umask === '' ? [] : ['/bin/sh', '-c', `umask ${umask} && exec "$@"`, 'sh']),
    ...command,
  ];
}

/** Environment variables that tell a program whose process it is. */
export function identityEnv(identity: Identity | undefined): Readonly<Record<string, string>> {
  if (identity === undefined) return {};
  const { name, home } = identity;
  return { USER: name, LOGNAME: name, HOME: home };
}

function groupIds(groups: readonly string[]): string {
  return groups.map((group) => lookUp('group', group, 'group')[2] ?? '').join(',');
}

/** Returns the fields of an entry, by name or number. The system's database may be more than a file (LDAP). */
function lookUp(database: 'passwd' | 'group', key: string, what: string): readonly string[] {
  let text: string;
  try {
    text = execFileSync('getent', [database, key], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    text = readFileSync(`/etc/${database}`, 'utf8');
  }
  const entries = text.split('\n').map((line) => line.split(':'));
  const found = entries.find((fields) => fields[0] === key || (fields[2] === key && fields.length > 3));
  if (found === undefined) throw new Error(`there is no ${what} ${key} on this machine; correct ${what}`);
  return found;
}

/** Whether this process is root, or has the capabilities to set users and groups. */
function mayChangeUser(): boolean {
  if (process.geteuid?.() === 0) return true;
  try {
    const status = readFileSync('/proc/self/status', 'utf8');
    const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
    return (effective & CHANGE_USER) === CHANGE_USER;
  } catch {
    return false;
  }
}

const PRLIMIT = 'prlimit';
const SETPRIV = 'setpriv';
/** CAP_SETGID and CAP_SETUID. */
const CHANGE_USER = (1n << 6n) | (1n << 7n);
const OPTION_OF_LIMIT = {
  openFiles: 'nofile',
  memoryBytes: 'as',
  processes: 'nproc',
  coreBytes: 'core',
  cpuS: 'cpu',
} as const;
