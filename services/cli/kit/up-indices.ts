// `katamari up --index wiki=./wiki`: the content server and the source that the index needs, and the index itself once
// the mesh is up. A folder that has changed since the last start becomes the next version, which gets the calls when
// it is loaded; the version before goes then.

import { stat } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { inc, rcompare } from 'semver';
import { EXIT, ExitError, type MoreSettings } from '../../config/mod.ts';
import type { AdminClient } from './admin-client.ts';
import { contentServerCommand, type ContentServerName, serverOfFolder } from './content-servers.ts';
import { IndexClient } from './index-client.ts';
import { sleep } from '../../../core/mod.ts';

/** An index that `up` serves. */
export interface UpIndex {
  readonly name: string;
  /** `file:` URL of its folder. */
  readonly source: string;
  readonly server: ContentServerName;
}

/** Reads `wiki=./wiki`. @throws ExitError */
export async function readUpIndices(cwd: string, texts: readonly string[]): Promise<UpIndex[]> {
  return await Promise.all(
    texts.map(async (text) => {
      const [, name, folder] = /^([A-Za-z][A-Za-z0-9_]*)=(.+)$/.exec(text) ?? [];
      if (name === undefined || folder === undefined)
        throw new ExitError(
          EXIT.usage,
          `--index: found ${JSON.stringify(text)}, expected a name and a folder: wiki=./wiki`,
        );
      const at = path.resolve(cwd, folder);
      if ((await stat(at).catch(() => undefined))?.isDirectory() !== true)
        throw new ExitError(EXIT.failed, `--index ${text}: ${at} is not a folder; katamari index build makes one`);
      return { name, source: pathToFileURL(at).href, server: await serverOfFolder(at) };
    }),
  );
}

/** The deployments and sources that the indices need. @param present services that the configuration runs already */
export function settingsFor(indices: readonly UpIndex[], present: ReadonlySet<string>): MoreSettings {
  const servers = [...new Set(indices.map(({ server }) => server))].filter((server) => !present.has(server));
  return {
    deployments: servers.map((server) => ({
      service: server,
      version: '1.0.0',
      count: COPIES,
      command: contentServerCommand(server),
    })),
    sources: indices.map(({ source }) => source),
  };
}

/** Adds the indices, and replaces versions whose folder has changed. Returns one line for each. */
export async function serveUpIndices(admin: AdminClient, indices: readonly UpIndex[]): Promise<string[]> {
  const client = new IndexClient(admin);
  const lines: string[] = [];
  for (const index of indices) lines.push(await serveOne(client, index));
  return lines;
}

async function serveOne(client: IndexClient, { name, source, server }: UpIndex): Promise<string> {
  const { manifest } = await client.inspect(source, server);
  const versions = (await client.status('', false)).filter((one) => one.name === name);
  // Versions that a person has added have other sources, and stay.
  const own = versions.filter((one) => one.source === source);
  const current = own.find((one) => one.manifest === manifest);
  const version = current?.version ?? nextVersion(versions.map((one) => one.version));
  if (current === undefined) await client.add({ name, version, source, contentService: server, promoteAtReplicas: 1 });
  const end = performance.now() + LOAD_MS;
  let completeAtMs: number | undefined;
  for (;;) {
    const [status] = (await client.status(name, false)).filter((one) => one.version === version);
    if (status === undefined) return `${name}@${version} was removed`;
    // It gets the calls a moment later, unless somebody has set the route.
    if (status.state === 'COMPLETE') completeAtMs ??= performance.now();
    if (completeAtMs !== undefined && (status.share === 1 || performance.now() > completeAtMs + PROMOTION_MS)) {
      const old = status.share === 1 ? own.filter((one) => one.version !== version) : [];
      for (const one of old) await removeQuietly(client, name, one.version);
      return `${name}@${version} is served: ${status.entries} entries in ${status.shards} shards`;
    }
    if (performance.now() > end) {
      const why = status.conditions.map((text) => `\n  ${text}`).join('');
      return `${name}@${version} is still being loaded, see katamari index status ${name}${why}`;
    }
    await sleep(POLL_EVERY_MS);
  }
}

/** A version above all others. */
function nextVersion(versions: readonly string[]): string {
  const [highest] = [...versions].sort(rcompare);
  return highest === undefined ? FIRST_VERSION : (inc(highest, 'patch') ?? FIRST_VERSION);
}

/** Another `up` may have removed it. */
async function removeQuietly(client: IndexClient, name: string, version: string): Promise<void> {
  try {
    await client.remove(name, version);
  } catch (error) {
    if (!(error as Error).message.includes('There is no index')) throw error;
  }
}

const COPIES = 2;
const FIRST_VERSION = '1.0.0';
const LOAD_MS = 300_000;
const PROMOTION_MS = 5_000;
const POLL_EVERY_MS = 200;
