// `katamari up --index wiki=./wiki`: the content server and the source that the index needs, and the index itself once
// the mesh is up. A folder that has changed since the last start becomes the next version, which gets the calls when
// it is loaded; the version before goes then.

import { stat } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { inc } from 'semver';
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
  const newest = versions.sort((a, b) => a.addedAtMs - b.addedAtMs).at(-1);
  if (newest?.manifest === manifest && newest.source === source) return `${name}@${newest.version} is served`;
  const version = newest === undefined ? FIRST_VERSION : (inc(newest.version, 'patch') ?? FIRST_VERSION);
  await client.add({ name, version, source, contentService: server, promoteAtReplicas: 1 });
  const end = performance.now() + LOAD_MS;
  for (;;) {
    const [status] = (await client.status(name, false)).filter((one) => one.version === version);
    if (status !== undefined && status.state === 'COMPLETE' && status.share === 1) {
      for (const old of versions) await client.remove(name, old.version);
      return `${name}@${version} is served: ${status.entries} entries in ${status.shards} shards`;
    }
    if (performance.now() > end)
      return `${name}@${version} is still being loaded, see katamari index status ${name}${status?.conditions.map((text) => `\n  ${text}`).join('') ?? ''}`;
    await sleep(POLL_EVERY_MS);
  }
}

const COPIES = 2;
const FIRST_VERSION = '1.0.0';
const LOAD_MS = 300_000;
const POLL_EVERY_MS = 200;
