// The files of the dashboard page, read once at start: its own files and those of the uplot package. The list is
// fixed, so no path from a request reaches the file system.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';

export interface Asset {
  readonly body: string;
  readonly contentType: string;
  readonly etag: string;
}

/** Reads the files of the page. Returns them by name; `index.html` is the page. */
export async function readAssets(): Promise<ReadonlyMap<string, Asset>> {
  const uplot = path.dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  const files: [name: string, file: string | URL][] = [
    ...PAGE_FILES.map((name): [string, URL] => [name, new URL(`./page/${name}`, import.meta.url)]),
    ...UPLOT_FILES.map((name): [string, string] => [name, path.join(uplot, 'dist', name)]),
  ];
  return new Map(await Promise.all(files.map(async ([name, file]) => [name, await readAsset(name, file)] as const)));
}

const PAGE_FILES = [
  'index.html',
  'page.css',
  'versions.css',
  'page.js',
  'pools.js',
  'resources.js',
  'processes.js',
  'indices.js',
  'shard-grid.js',
  'charts.js',
  'events.js',
  'versions.js',
  'version-shares.js',
  'version-figures.js',
  'version-picture.js',
  'version-history.js',
  'version-mirror.js',
  'version-rollout.js',
  'operator.js',
  'format.js',
  'icon.svg',
];
const UPLOT_FILES = ['uPlot.iife.min.js', 'uPlot.min.css'];

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

async function readAsset(name: string, file: string | URL): Promise<Asset> {
  const body = await readFile(file, 'utf8');
  const digest = createHash('sha256').update(body).digest('base64url').slice(0, 22);
  return { body, contentType: CONTENT_TYPES[path.extname(name)] ?? 'text/plain; charset=utf-8', etag: `"${digest}"` };
}
