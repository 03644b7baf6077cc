// Checks of what the code of a deployment can do to the mesh and its machine: the user that it runs as, whether it can
// gain rights, secrets in its environment and on its command line, and who can replace the code.

import { isSecretName, redactChange } from '../../audit/mod.ts';
import type { Config } from '../../config/mod.ts';
import type { Isolation } from '../../mesh/mod.ts';
import { fail, ok, warn, type Finding } from './finding.ts';
import { isReadByOthers, modeOf, OTHERS_WRITE, statOf } from './secrets.ts';
import os from 'node:os';
import path from 'node:path';

/** A deployment of the configuration, or one that Consul has. */
export interface CheckedDeployment {
  readonly id: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly isolation: Isolation | null;
  /** Its place, for advice: `deployments[0]`, or `Search@1.0.0 (katamari deploy)`. */
  readonly place: string;
  /** Location of one of its keys as the start of a message. */
  readonly at: (...keys: readonly string[]) => string;
  /** File that it is written in; undefined if Consul has it. */
  readonly file: string | undefined;
}

/** The user that the mesh runs as. */
export interface MeshUser {
  readonly uid: number;
  readonly name: string;
}

export function checkIsolation(deployments: readonly CheckedDeployment[], user: MeshUser): Finding[] {
  if (deployments.length === 0) return [];
  const subject = 'deployments';
  const kinds = deployments.map((deployment) => ({ deployment, runsAs: runsAs(deployment, user) }));
  const of = (kind: RunsAs): readonly CheckedDeployment[] =>
    kinds.filter(({ runsAs: found }) => found === kind).map(({ deployment }) => deployment);
  const gaining = deployments.filter(({ isolation }) => isolation?.noNewPrivileges !== true);
  const found = [
    ...told(of('root'), (who, places) =>
      fail(
        subject,
        `${who} as root: a fault in that code gives the whole machine away`,
        `set user to an account without rights in ${places}`,
      ),
    ),
    ...told(of('mesh'), (who, places) =>
      warn(
        subject,
        `${who} as ${user.name}, like the mesh: that code can read the secrets of the mesh and stop it`,
        `start the mesh as root or with CAP_SETUID and CAP_SETGID, and set user in ${places}`,
      ),
    ),
    ...told(gaining, (who, places) =>
      warn(
        subject,
        `${who} without no_new_privs: that code can gain rights by a setuid program`,
        `set noNewPrivileges: true in ${places}`,
      ),
    ),
    ...deployments.flatMap(checkSecretsOf),
  ];
  return found.length > 0 ? found : [ok(subject, 'have users of their own, gain no rights, and carry no secrets')];
}

/** Whoever can write code that the mesh runs decides what it does. */
export function checkCode({ deployments, faceplates }: Config): Finding[] {
  const files = [
    ...deployments.flatMap(({ id, command, cwd }) =>
      command
        .filter((word) => word.includes('/'))
        .map((word) => ({ subject: `chassis ${id}`, file: path.resolve(cwd, word) })),
    ),
    ...faceplates
      .filter(({ module }) => /^[./~]/.test(module))
      .map(({ name, module, directory }) => ({
        subject: `faceplate ${name}`,
        file: path.resolve(directory, module.replace(/^~(?=\/)/, os.homedir())),
      })),
  ];
  const found = new Map(
    files.map(({ subject, file }) => [`${subject} ${file}`, { subject, file, stats: statOf(file) }]),
  );
  return [...found.values()].flatMap(({ subject, file, stats }) => {
    if (stats?.isFile() !== true || (stats.mode & OTHERS_WRITE) === 0) return [];
    const text = `${file} has mode ${modeOf(stats)}: every user of this machine can replace the code that runs`;
    return [fail(subject, text, `chmod o-w ${file}`)];
  });
}

type RunsAs = 'root' | 'mesh' | 'other';

function runsAs({ isolation }: CheckedDeployment, mesh: MeshUser): RunsAs {
  const user = isolation?.user ?? '';
  if (user === 'root' || user === '0' || (user === '' && mesh.uid === 0)) return 'root';
  return user === '' || user === mesh.name || user === String(mesh.uid) ? 'mesh' : 'other';
}

/** One finding for all deployments of a kind. */
function told(
  deployments: readonly CheckedDeployment[],
  say: (who: string, places: string) => Finding,
): readonly Finding[] {
  if (deployments.length === 0) return [];
  const verb = deployments.length === 1 ? 'runs' : 'run';
  return [say(`${listed(deployments.map(({ id }) => id))} ${verb}`, listed(deployments.map(({ place }) => place)))];
}

/** `a, b, c and 7 more` */
export function listed(names: readonly string[]): string {
  const shown = names.slice(0, NAMES_SHOWN_MAX).join(', ');
  return names.length > NAMES_SHOWN_MAX ? `${shown} and ${names.length - NAMES_SHOWN_MAX} more` : shown;
}

function checkSecretsOf({ id, env, command, at, file }: CheckedDeployment): Finding[] {
  const subject = `chassis ${id}`;
  const inEnvironment = Object.entries(env)
    .filter(([name, value]) => isSecret(name, value))
    .map(([name]) => {
      const advice = 'keep it in a file that only the user of the deployment can read, and pass the name of the file';
      const what = `${at('env', name)} looks like a secret`;
      if (file !== undefined && isReadByOthers(file)) {
        return fail(
          subject,
          `${what}: every user of this machine can read it in ${file}`,
          `chmod 600 ${file}, or ${advice}`,
        );
      }
      return warn(subject, `${what}: all programs that the process starts, and crash reports get it`, advice);
    });
  const isOnLine = redacted(command).some((word, index) => word !== command[index]);
  if (!isOnLine) return inEnvironment;
  const text = `${at('command')} looks like it has a secret: every user of this machine can read it in the list of processes`;
  return [...inEnvironment, fail(subject, text, 'pass the name of a file that has it')];
}

/** Whether a variable holds a secret: by its name, or because its value is a URL with a password or a private key. */
function isSecret(name: string, value: string): boolean {
  if (redacted([value])[0] !== value) return true;
  if (!isSecretName(name) || value === '' || NAMES_A_FILE.test(name)) return false;
  // `MAX_TOKENS: 4096`, `USE_KEYS: true`
  return !SWITCH.test(value) && (!/^\d+$/.test(value) || PASSWORD.test(name));
}

function redacted(command: readonly string[]): readonly string[] {
  return redactChange(undefined, command).after as readonly string[];
}

const NAMES_A_FILE = /(file|path|dir|directory)s?$/i;
const SWITCH = /^(true|false|yes|no|on|off|none)$/i;
const PASSWORD = /pass|pwd|pin$|secret/i;
const NAMES_SHOWN_MAX = 4;
