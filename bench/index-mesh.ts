// A mesh with three indices for the bench: a text in 8 shards of TextSearch, the same text in 8 shards of Lucene, and
// pairs in 8 shards of MapFileLookup, each on two managers. Master, managers and faceplate are processes of their own,
// so that the cost of each can be seen.

import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildShards } from '../content-servers/text/mod.ts';
import { consulClient } from '../services/consul/mod.ts';
import { documentSigner } from '../services/mesh/mod.ts';
import { freePorts, startRealConsul } from '../test/kit/consul/consul.ts';
import { Corpus } from '../test/kit/content/corpus.ts';
import { writeMapFile } from '../test/kit/content/map-file-writer.ts';
import { addIndex } from '../test/kit/mesh/index-source.ts';
import { buildLuceneShards, luceneCommand } from '../test/kit/tools/lucene.ts';
import { Random } from '../test/kit/tools/random.ts';
import { REPOSITORY } from '../test/kit/tools/repository.ts';
import { echoChassis, runtimeLine, type Runtime } from './contenders.ts';
import { startProgram, type Program } from './programs.ts';

export interface IndexMesh {
  readonly port: number;
  /** The process that gathers. */
  readonly faceplate: number;
  /** All processes of the mesh; their descendants count, too. Consul is not among them. */
  readonly pids: readonly number[];
  /** Words of the text, from frequent to rare. */
  readonly words: readonly string[];
  readonly keys: readonly string[];
  /** Where the text is from. */
  readonly text: string;
  close(): Promise<void>;
}

export async function startIndexMesh(runtime: Runtime): Promise<IndexMesh> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-bench-'));
  const { words, text } = await writeText(folder);
  const keys = writePairs(path.join(folder, 'pairs'));
  const consul = await startRealConsul();
  const programs: Program[] = [];
  const close = async (): Promise<void> => {
    for (const program of programs.toReversed()) await program.close();
    await consul.close();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const secret = randomBytes(24).toString('hex');
    const ports = await freePorts(12);
    const start = async (role: 'master' | 'manager' | 'faceplate', name: string, own: object = {}): Promise<void> => {
      const file = path.join(folder, `${name}.yaml`);
      const [thrift = 0, jsonRpc = 0, stats = 0, link = 0] = ports.slice(PORTS * programs.length);
      const front = role === 'faceplate' ? { thrift, jsonRpc } : {};
      const config = {
        mesh: MESH,
        name,
        dataDir: path.join(folder, name),
        ports: { ...front, stats: role === 'faceplate' ? stats : thrift, link: role === 'faceplate' ? link : jsonRpc },
        consul: { address: `http://${consul.address}` },
        link: { secret },
        ...own,
      };
      writeFileSync(file, JSON.stringify(config));
      const line = [...runtimeLine(runtime, flagsOf(name)), role, '--config', file, '--log', 'json'];
      programs.push(await startProgram(line, { readyWhen: /"addresses"/, cwd: folder }));
    };
    const content = { sources: [pathToFileURL(folder).href] };
    await start('faceplate', 'faceplate');
    await start('master', 'master');
    const servers = [
      serverOf('TextSearch', 'text'),
      serverOf('MapFileLookup', 'map-file'),
      { service: 'Lucene', version: '1.0.0', command: await luceneCommand('lucene'), count: 1 },
    ];
    await start('manager', 'm1', {
      content,
      deployments: [...servers, { service: 'Echo', version: '1.0.0', command: echoChassis(1), count: 1 }],
    });
    await start('manager', 'm2', { content, deployments: servers });
    const client = consulClient({
      address: `http://${consul.address}`,
      token: '',
      signer: documentSigner(MESH, () => [secret]),
    });
    for (const [name, contentService] of [
      ['text', 'TextSearch'],
      ['lucene', 'Lucene'],
      ['pairs', 'MapFileLookup'],
    ] as const)
      await addIndex(client, path.join(folder, name), '1.0.0', { name, contentService }, MESH);
    const [port = 0, jsonRpc = 0] = ports;
    const url = `http://127.0.0.1:${jsonRpc}/rpc`;
    await untilServed(url, 'text.count', { query: words[0] });
    await untilServed(url, 'lucene.count', { query: words[0] });
    await untilServed(url, 'pairs.get', { key: Buffer.from(keys[0] ?? '').toString('base64') });
    const pids = programs.map(({ pid }) => pid);
    return { port, faceplate: pids[0] ?? 0, pids, words, keys, text, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Builds the shards of the text for both engines: a novel 20 times if it is there, else generated documents. */
async function writeText(folder: string): Promise<{ readonly words: readonly string[]; readonly text: string }> {
  const data = process.env['KATTA_DATA'] ?? path.join(REPOSITORY, '../shared/katta-data');
  const novel = path.join(data, 'alice.txt');
  const isThere = existsSync(novel);
  const documents = isThere ? paragraphsOf(novel) : generatedDocuments();
  const parts = Array.from({ length: SHARDS }, (_, part) => {
    const file = path.join(folder, `documents-${part}.ndjson`);
    writeFileSync(file, documents.filter((_, at) => at % SHARDS === part).join('\n'));
    return file;
  });
  await buildShards({ inputs: parts, output: path.join(folder, 'text'), shards: SHARDS });
  mkdirSync(path.join(folder, 'lucene'));
  const jobs = parts.map((ndjson, part) => ({ ndjson, shard: path.join(folder, 'lucene', `part-${part}`) }));
  await buildLuceneShards('lucene', jobs);
  const words = wordsOf(documents.join('\n'));
  return { words, text: `${documents.length.toLocaleString('en')} ${isThere ? 'paragraphs of a novel' : 'documents'}` };
}

/** The paragraphs of a novel many times, as JSON objects. */
function paragraphsOf(novel: string): readonly string[] {
  const paragraphs = readFileSync(novel, 'utf8')
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.trim())
    .filter((paragraph) => paragraph !== '');
  return Array.from({ length: COPIES }, () => paragraphs).flatMap((copy) =>
    copy.map((text) => JSON.stringify({ text })),
  );
}

function generatedDocuments(): readonly string[] {
  return new Corpus(new Random(SEED))
    .documents(DOCUMENTS)
    .map(({ title, body }) => JSON.stringify({ text: `${title} ${body}` }));
}

/** Words of at least three letters, the most frequent first. */
function wordsOf(text: string): readonly string[] {
  const counts = new Map<string, number>();
  for (const [word] of text.toLowerCase().matchAll(/\b[a-z]{3,}\b/g)) counts.set(word, (counts.get(word) ?? 0) + 1);
  counts.delete('text');
  return [...counts].sort(([, a], [, b]) => b - a).map(([word]) => word);
}

function writePairs(folder: string): readonly string[] {
  mkdirSync(folder);
  const keys = Array.from({ length: PAIRS }, (_, at) => `key ${String(at).padStart(6, '0')}`);
  for (let shard = 0; shard < SHARDS; shard++) {
    const own = keys.filter((_, at) => at % SHARDS === shard);
    const entries = own.map((key) => [Buffer.from(key), Buffer.from(`value of ${key}`)] as const);
    writeMapFile(path.join(folder, `part-${shard}`), entries);
  }
  return keys;
}

function serverOf(service: string, folder: string): object {
  const main = path.join(REPOSITORY, 'dist', 'content-servers', folder, 'main.js');
  return { service, version: '1.0.0', command: [process.execPath, ...flagsOf(folder), main], count: 1 };
}

/** Flags for the runtime of a process, from BENCH_FLAGS_NAME: to profile one of them. `TEXT` is the content server. */
function flagsOf(name: string): readonly string[] {
  return (process.env[`BENCH_FLAGS_${name.toUpperCase()}`] ?? '').split(' ').filter((flag) => flag !== '');
}

async function untilServed(url: string, method: string, params: object): Promise<void> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const headers = { 'content-type': 'application/json' };
  const endAt = performance.now() + SERVE_MS;
  for (;;) {
    const answer = (await (await fetch(url, { method: 'POST', body, headers })).json()) as {
      readonly result?: unknown;
      readonly error?: { readonly message: string };
    };
    if (answer.result !== undefined) return;
    if (performance.now() > endAt)
      throw new Error(`${method} failed for ${SERVE_MS} ms, the last time with: ${answer.error?.message}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const MESH = 'bench';
const SHARDS = 8;
/** Ports of the faceplate, which is first and has the most. */
const PORTS = 3;
/** Copies of the novel. */
const COPIES = 20;
const DOCUMENTS = 17_640;
const PAIRS = 40_000;
const SEED = 1;
const SERVE_MS = 30_000;
