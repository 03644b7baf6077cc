// Checks of indices: who can change the files of the shards on this machine, which sources an admin can have it read,
// and which of them come without TLS.

import { lstatSync, readdirSync, readlinkSync, realpathSync, type Stats } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { isLoopback } from '../../../core/link/mod.ts';
import type { Config, LoadedConfig } from '../../config/mod.ts';
import { isBelow, secretFilesOf } from './exposure.ts';
import { fail, ok, warn, type Finding } from './finding.ts';
import { modeOf, OTHERS_WRITE, strangerOf, userName } from './secrets.ts';

/** Checks the directory of the shards, the way to it, and what is directly in it. */
export function checkShardDirectory({ content: { directory } }: Config): Finding {
  const subject = 'shard directory';
  const way = stepsTo(directory);
  const own = way.at(-1);
  const isThere = own?.isWhole === true && own.stats.isDirectory();
  const above = isThere ? way.slice(0, -1) : way;
  const inside = isThere ? [own, ...entriesOf(own.path)] : [];
  const link = inside.find(({ stats }) => stats.isSymbolicLink());
  const [step, who] =
    above.map((one) => whoChanges(one, one.isSticky ? 0 : OTHERS_WRITE)).find((one) => one !== undefined) ??
    inside.map((one) => whoChanges(one, GROUP_WRITE | OTHERS_WRITE)).find((one) => one !== undefined) ??
    [];
  if (step !== undefined) {
    const { path: at, stats } = step;
    const isStranger = strangerOf(stats) !== undefined;
    const why = isStranger ? `belongs to ${who}, who` : `has mode ${modeOf(stats)}: ${who}`;
    const advice = isStranger ? `chown ${userName()} ${at}` : `chmod go-w ${at}`;
    return fail(subject, `${at} ${why} can put other shards into ${directory}`, advice);
  }
  if (link !== undefined) {
    const text = `${link.path} is a symbolic link, and the mesh follows it when it writes and removes shards`;
    return fail(subject, text, 'replace it by a directory, or name its target in content.directory');
  }
  return ok(subject, isThere ? `${directory}, closed to changes by others` : `${directory} will be created`);
}

/** Who, beside the user of the mesh and root, can change a file or directory. */
function whoChanges(step: PathStep, mask: number): [step: PathStep, who: string] | undefined {
  const stranger = strangerOf(step.stats);
  if (stranger !== undefined) return [step, stranger];
  if (step.stats.isSymbolicLink() || (step.stats.mode & mask) === 0) return undefined;
  return [step, (step.stats.mode & OTHERS_WRITE) === 0 ? 'its group' : 'every user of this machine'];
}

/**
 * Checks the prefixes of `content.sources`. The default, the folder of the configuration, may have its secrets.
 * @param file absolute path of the configuration; undefined for none
 */
export function checkSources({ config, settings }: LoadedConfig, file: string | undefined): Finding[] {
  const { sources } = config.content;
  const isDefault = !settings.some(({ key, from }) => key.startsWith('content.sources') && from !== 'default');
  const secrets = isDefault ? undefined : [...secretFilesOf(config, file), homeFolder()];
  const found = sources.flatMap((source) => (/^file:/i.test(source) ? checkFiles(source, secrets) : checkHost(source)));
  return found.length > 0 ? found : [ok(SOURCES, sources.length === 0 ? 'none are allowed' : sources.join(', '))];
}

/** @param secrets what must not be below the source; undefined for the default, of which only the root is told */
function checkFiles(source: string, secrets: readonly string[] | undefined): Finding[] {
  const folder = realOf(fileURLToPath(source));
  const of = folder === trimmed(fileURLToPath(source)) ? source : `${source} (${folder})`;
  const advice = 'name the folders of indices alone in content.sources';
  if (folder === '/')
    return [fail(SOURCES, `${of} is this whole machine: an admin can have the mesh read every file`, advice)];
  if (secrets === undefined) return [];
  if (SYSTEM_FOLDERS.some((one) => isBelow(folder, one)))
    return [fail(SOURCES, `${of} has files of the system, which an admin can have the mesh read`, advice)];
  const covered = secrets.find((one) => one !== '' && isBelow(realOf(one), folder));
  if (covered !== undefined)
    return [fail(SOURCES, `${of} contains ${covered}, which an admin can have the mesh read as a shard`, advice)];
  if (!WIDE_FOLDERS.includes(folder)) return [];
  return [warn(SOURCES, `${of} has much more than indices, which an admin can have the mesh read`, advice)];
}

function checkHost(source: string): Finding[] {
  const { protocol, hostname, host } = new URL(source);
  const secure = SECURE[protocol];
  if (secure === undefined || isLoopback({ host: hostname.replace(/^\[|\]$/g, ''), port: 0 })) return [];
  const text = `${protocol}//${host} is another machine, without TLS: others in the network can give the mesh other shards`;
  return [warn(SOURCES, text, `write ${secure}// in content.sources`)];
}

/** A directory, or a symbolic link, on the way to a directory. */
interface PathStep {
  readonly path: string;
  readonly stats: Stats;
  /** Whether only the owners of its entries can replace them. */
  readonly isSticky: boolean;
  /** Whether this is the end of the way. */
  readonly isWhole: boolean;
}

/** What is on the way to a path, from the root, with the ways of symbolic links. Ends where nothing exists. */
function stepsTo(target: string): PathStep[] {
  const steps: PathStep[] = [];
  let at: string = path.parse(target).root;
  const names = target.slice(at.length).split(path.sep).filter(Boolean);
  for (let links = 0; names.length > 0;) {
    const name = names.shift() as string;
    const next = path.join(at, name);
    const stats = linkStatOf(next);
    if (stats === undefined) return steps;
    steps.push({ path: next, stats, isSticky: (stats.mode & STICKY) !== 0, isWhole: names.length === 0 });
    if (!stats.isSymbolicLink()) {
      at = next;
      continue;
    }
    if (++links > LINKS_MAX) return steps;
    const way = path.resolve(at, readlinkSync(next));
    at = path.parse(way).root;
    names.unshift(...way.slice(at.length).split(path.sep).filter(Boolean));
  }
  return steps;
}

function entriesOf(directory: string): PathStep[] {
  return namesIn(directory).flatMap((name) => {
    const entry = path.join(directory, name);
    const stats = linkStatOf(entry);
    return stats === undefined ? [] : [{ path: entry, stats, isSticky: false, isWhole: false }];
  });
}

/** Empty if this user may not read the directory. */
function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Undefined for what does not exist, and where this user may not look. */
function linkStatOf(file: string): Stats | undefined {
  try {
    return lstatSync(file);
  } catch {
    return undefined;
  }
}

/** The home folder of the user, with keys and credentials; '' if it is unknown. */
function homeFolder(): string {
  try {
    return os.userInfo().homedir;
  } catch {
    return '';
  }
}

/** The path without symbolic links; the path itself if it does not exist. */
function realOf(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return trimmed(file);
  }
}

function trimmed(folder: string): string {
  return folder.replace(/(?<=.)\/+$/, '');
}

const SOURCES = 'shard sources';
/** Folders of the system: they and all below have no indices. */
const SYSTEM_FOLDERS = ['/etc', '/boot', '/proc', '/sys', '/dev', '/run'];
/** Folders that have indices below, and much else. */
const WIDE_FOLDERS = ['/home', '/usr', '/var', '/var/lib', '/tmp', '/opt'];
/** What to write for a protocol without TLS. */
const SECURE: Readonly<Record<string, string>> = { 'http:': 'https:', 'hdfs:': 'swebhdfs:' };
const STICKY = 0o1000;
const GROUP_WRITE = 0o020;
const LINKS_MAX = 40;
