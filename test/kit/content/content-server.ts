// A content server as its manager sees it: a process with one link. Calls return plain JavaScript values, with i64 as
// number, and throw what the server throws.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { decodeStruct, encodeStruct, parseIdl, readIdlFile, valueOfResult } from '../../../core/idl/mod.ts';
import { Link } from '../../../core/link/mod.ts';
import { DEFAULT_LIMITS, systemClock } from '../../../core/mod.ts';
import { contentInterface, createCall, type Reply } from '../../../core/rpc/mod.ts';
import { readApplicationException, type Interface, type Method } from '../../../core/thrift/mod.ts';
import { until } from '../tools/wait.ts';

const search = parseIdl(readIdlFile(new URL('../../../idl/search.thrift', import.meta.url)));
const textContent = search.services.get('TextContent') as Interface;

export interface ShardFactsSeen {
  readonly entries: number;
  readonly more: ReadonlyMap<string, string>;
}
export type SeenValue = Readonly<{ text?: string; whole?: number; real?: number; bytes?: Buffer; missing?: boolean }>;
export interface SeenHit {
  readonly shard: string;
  readonly document: number;
  readonly score: number;
  readonly sortValues: readonly SeenValue[];
  readonly fields?: ReadonlyMap<string, readonly SeenValue[]>;
}
export interface SeenAnswer {
  readonly total: number;
  readonly hits: readonly SeenHit[];
  readonly coverage: {
    readonly shards: number;
    readonly complete: number;
    readonly missing: readonly { readonly shard: string; readonly lack: number; readonly why: string }[];
  };
  readonly cursor: string;
}
export interface SeenDocument {
  readonly id: { readonly shard: string; readonly document: number };
  readonly fields: ReadonlyMap<string, readonly SeenValue[]>;
}
export type SearchParams = Readonly<{
  shards?: readonly string[];
  query: string;
  count?: number;
  sort?: readonly Readonly<{ field: string; descending?: boolean }>[];
  filter?: string;
  fields?: readonly string[];
  after?: string;
  statistics?: ReadonlyMap<string, number>;
}>;

/** The cursor behind a hit, as whoever merges answers makes it. */
export function cursorBehindSeen({ shard, document, score, sortValues }: SeenHit): string {
  const type = search.structs.get('Hit');
  if (type === undefined) throw new Error('idl/search.thrift has no struct Hit');
  return encodeStruct(type, { shard, document, score, sortValues }).toString('base64url');
}

export class ContentServerProcess {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #link: Link;

  private constructor(child: ChildProcess, folder: string, link: Link) {
    this.#child = child;
    this.#folder = folder;
    this.#link = link;
  }

  static async start(
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<ContentServerProcess> {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-content-'));
    const listen = path.join(folder, 'server.sock');
    const [program = '', ...args] = command;
    const child = spawn(program, args, {
      env: { ...process.env, ...env, KATAMARI_LISTEN: `unix:${listen}`, KATAMARI_LIFELINE: 'stdin' },
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    try {
      const socket = await until('the content server to listen', async () => {
        if (child.exitCode !== null) throw new Error(`The content server exited with ${child.exitCode}`);
        const tried = connect(listen);
        return await once(tried, 'connect').then(
          () => tried,
          () => undefined,
        );
      });
      return new ContentServerProcess(child, folder, new Link(socket, { peer: 'the server', limits: DEFAULT_LIMITS }));
    } catch (error) {
      child.stdin?.end();
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  open(shard: string, at: string): Promise<ShardFactsSeen> {
    return this.#control('open', { shard, path: at }) as Promise<ShardFactsSeen>;
  }

  async close(shard: string): Promise<void> {
    await this.#control('close', { shard });
  }

  shards(): Promise<readonly string[]> {
    return this.#control('shards', {}) as Promise<readonly string[]>;
  }

  statistics(query: string, shards?: readonly string[]): Promise<ReadonlyMap<string, number>> {
    return this.#search('statistics', { query, shards }) as Promise<ReadonlyMap<string, number>>;
  }

  search(params: SearchParams, timeoutMs?: number): Promise<SeenAnswer> {
    return this.#search('search', params, timeoutMs) as Promise<SeenAnswer>;
  }

  count(query: string, filter = '', shards?: readonly string[]): Promise<number> {
    return this.#search('count', { query, filter, shards }) as Promise<number>;
  }

  documents(ids: readonly SeenDocument['id'][], fields?: readonly string[]): Promise<readonly SeenDocument[]> {
    return this.#search('documents', { ids, fields }) as Promise<readonly SeenDocument[]>;
  }

  explain(query: string, id: SeenDocument['id'], statistics: ReadonlyMap<string, number>): Promise<string> {
    return this.#search('explain', { query, id, statistics }) as Promise<string>;
  }

  /** Kills the process, without a chance to tidy up. */
  async kill(): Promise<void> {
    await this.#end(() => this.#child.kill('SIGKILL'));
  }

  async stop(): Promise<void> {
    await this.#end(() => this.#child.stdin?.end());
  }

  async #end(end: () => void): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    const exited = exitCode === null && signalCode === null ? once(this.#child, 'exit') : undefined;
    end();
    await exited;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #control(name: string, params: Readonly<Record<string, unknown>>): Promise<unknown> {
    const method = contentInterface().methods.get(name) as Method;
    return this.#call('katamari.Content', method, params, `katamari.Content:${name}`, TIMEOUT_MS);
  }

  #search(name: string, params: Readonly<Record<string, unknown>>, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    return this.#call('', textContent.methods.get(name) as Method, params, name, timeoutMs);
  }

  async #call(
    service: string,
    method: Method,
    params: Readonly<Record<string, unknown>>,
    name: string,
    timeoutMs: number,
  ): Promise<unknown> {
    const nowMs = systemClock.nowMs();
    const args = encodeStruct(method.args, params);
    const call = createCall({ service, method: method.name, args, deadlineMs: nowMs + timeoutMs });
    const reply = await new Promise<Reply>((resolve, fail) => {
      this.#link.send(call, { reply: resolve, fail }, nowMs, name);
    });
    if (reply.isException) throw new Error(readApplicationException(reply.body).message);
    return valueOfResult(method, decodeStruct(method.result, reply.body, { i64: 'number' }));
  }
}

const TIMEOUT_MS = 60_000;
