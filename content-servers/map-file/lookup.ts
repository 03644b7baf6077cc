// The methods of MapFileLookup. Values of an answer are added up, so that an answer is never larger than a message of
// the mesh may be.

import { CallRefused } from '../../chassis-sdk/typescript/mod.ts';
import type { Found, MapFile } from './map-file.ts';

import { setImmediate as nextTurn } from 'node:timers/promises';

export interface LookupLimits {
  /** Keys of one call. */
  readonly keysMax: number;
  /** Bytes of an answer. */
  readonly answerBytesMax: number;
}

interface LookupEntry {
  readonly shard: string;
  readonly key: Buffer;
  readonly value: Buffer;
}

/** Entries as in idl/lookup.thrift. The mesh fills in what it knows of the coverage. */
export interface LookupAnswer {
  readonly entries: readonly LookupEntry[];
  readonly coverage: {
    readonly shards: number;
    readonly complete: number;
    readonly missing: readonly never[];
    readonly retried: number;
    readonly hedged: number;
  };
}

type OpenShards = ReadonlyMap<string, MapFile>;

/**
 * Looks a key up in each shard. The shards are read beside each other.
 * @throws CallRefused bad_request when the answer is too large
 */
export async function getOne(shards: OpenShards, key: Buffer, limits: LookupLimits): Promise<LookupAnswer> {
  checkKeys([key], limits);
  const answer = new AnswerList(limits);
  const found: Found[] = [];
  for (const file of shards.values()) found.push(later(() => file.find(key)));
  // All have ended before the call does: a shard may be closed afterwards.
  const mustWait = found.some((one) => one instanceof Promise);
  const settled = mustWait ? await Promise.allSettled(found.map((one) => Promise.resolve(one))) : undefined;
  let at = 0;
  for (const shard of shards.keys()) {
    const one = settled?.[at];
    if (one?.status === 'rejected') throw inShard(shard, one.reason);
    const value = one === undefined ? (found[at] as Buffer | undefined) : one.value;
    if (value !== undefined) answer.add(shard, key, value);
    at++;
  }
  return answer.of(shards);
}

/**
 * Looks many keys up, in order of the shards, then of the keys.
 * @param timeLeftMs time until the deadline of the call
 * @throws CallRefused bad_request when there are too many keys or the answer is too large; timeout
 */
export async function getMany(
  shards: OpenShards,
  keys: readonly Buffer[],
  limits: LookupLimits,
  timeLeftMs: () => number,
): Promise<LookupAnswer> {
  checkKeys(keys, limits);
  const answer = new AnswerList(limits);
  let looked = 0;
  for (const [shard, file] of shards) {
    for (const key of keys) {
      if (++looked % LOOKUPS_PER_TURN === 0) {
        await nextTurn();
        if (timeLeftMs() === 0) throw new CallRefused('timeout', `${looked} look-ups took all the time of the call`);
      }
      try {
        const found = file.find(key);
        const value = found instanceof Promise ? await found : found;
        if (value !== undefined) answer.add(shard, key, value);
      } catch (error) {
        throw inShard(shard, error);
      }
    }
  }
  return answer.of(shards);
}

/** Turns what is thrown into a rejection. */
function later(find: () => Found): Found {
  try {
    return find();
  } catch (error) {
    return Promise.reject(error);
  }
}

function checkKeys(keys: readonly (Buffer | undefined)[], { keysMax }: LookupLimits): void {
  if (keys.length > keysMax)
    throw new CallRefused('bad_request', `The call has ${keys.length} keys, the limit is ${keysMax}; make more calls`);
  if (keys.includes(undefined)) throw new CallRefused('bad_request', 'The call has no key; give the bytes of a key');
}

/** Says in which shard an error was. */
function inShard(shard: string, error: unknown): Error {
  const { message } = error as Error;
  if (error instanceof CallRefused) return new CallRefused('bad_request', `${shard}: ${message}`);
  return new Error(`${shard}: ${message}`, { cause: error });
}

/** The entries of an answer, and their bytes. */
class AnswerList {
  readonly #entries: LookupEntry[] = [];
  readonly #bytesMax: number;
  #bytes = 0;

  constructor({ answerBytesMax }: LookupLimits) {
    this.#bytesMax = answerBytesMax;
  }

  add(shard: string, key: Buffer, value: Buffer): void {
    this.#bytes += ENTRY_BYTES + shard.length + key.length + value.length;
    if (this.#bytes > this.#bytesMax) {
      const why = `The answer has more than ${this.#bytesMax} bytes, which is the limit`;
      throw new CallRefused('bad_request', `${why}; ask for fewer keys, or for fewer shards`);
    }
    this.#entries.push({ shard, key, value });
  }

  of({ size }: OpenShards): LookupAnswer {
    return { entries: this.#entries, coverage: { shards: size, complete: size, missing: [], retried: 0, hedged: 0 } };
  }
}

/** Bytes of an entry in a message, without its values. */
const ENTRY_BYTES = 22;
/** Look-ups between two turns of the event loop: some 2 ms when all is in memory. */
const LOOKUPS_PER_TURN = 256;
