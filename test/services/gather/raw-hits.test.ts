// Hits of several answers are merged as bytes: the result is that of decoding and sorting all of them.

import { describe, expect, test } from 'vitest';
import { decodeStruct, encodeStruct, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import type { Method, StructType } from '../../../core/thrift/mod.ts';
import { LACK, type Coverage } from '../../../services/gather/coverage.ts';
import { compareHits, type Hit, type SortKey } from '../../../services/gather/hit-order.ts';
import { bestHits, cursorOf, readFound, writeFound } from '../../../services/gather/raw-hits.ts';
import { Random } from '../../kit/tools/random.ts';

const SEED = 20261130;
const ROUNDS = 300;
const idl = parseIdl(readIdlFile(new URL('../../../idl/search.thrift', import.meta.url)));
const SEARCH = idl.services.get('TextContent')?.methods.get('search') as Method;
const HIT = idl.structs.get('Hit') as StructType;
const WHOLE: Coverage = { shards: 2, complete: 2, missing: [], retried: 0, hedged: 0 };
const BY_WHOLE: readonly SortKey[] = [{ field: 'n', descending: true }];

interface Found {
  readonly total: bigint;
  readonly hits: readonly Hit[];
  readonly coverage: Coverage;
  readonly cursor: string;
}

/** Hits with few different scores and values, so that many are equal; in any order. */
function answerOf(random: Random, shard: string): Found {
  const hits = Array.from({ length: random.below(12) }, (_, at): Hit => {
    const sortValues = [random.chance(0.2) ? { missing: true } : { whole: BigInt(random.below(4)) }];
    const fields = random.chance(0.5) ? { fields: new Map([['title', [{ text: `a ${at}` }]]]) } : {};
    const score = random.chance(0.1) ? Number.NaN : random.below(5) / 2;
    return { shard, document: BigInt(random.below(100)), score, sortValues, ...fields };
  });
  return { total: BigInt(hits.length), hits, coverage: WHOLE, cursor: '' };
}

const encoded = (found: Found): Buffer => encodeStruct(SEARCH.result, { success: found });
const decoded = (body: Uint8Array): Found => decodeStruct(SEARCH.result, body)['success'] as Found;

describe(`Hits of several answers (seed ${SEED})`, () => {
  test('are the first ones of all hits in order, and the cursor is the last one without its fields', () => {
    const random = new Random(SEED);
    for (let round = 0; round < ROUNDS; round++) {
      const sort = random.chance(0.5) ? [] : BY_WHOLE;
      const answers = Array.from({ length: random.below(9) }, (_, at) => answerOf(random, `w@1.0.0/${at}`));
      const count = random.below(random.chance(0.5) ? 4 : 40);
      const hits = bestHits(
        answers.map((answer) => readFound(SEARCH, encoded(answer), sort)),
        sort,
        count,
      );
      const body = writeFound(SEARCH, { total: 7n, hits, coverage: WHOLE, cursor: 'next' });
      const all = answers.flatMap((answer) => decoded(encoded(answer)).hits);
      const wanted = all.sort((a, b) => compareHits(a, b, sort)).slice(0, count);
      expect(decoded(body), `round ${round}`).toEqual({ total: 7n, hits: wanted, coverage: WHOLE, cursor: 'next' });
      const [last, raw] = [wanted.at(-1), hits.at(-1)];
      if (last === undefined || raw === undefined) continue;
      const { shard, document, score, sortValues } = last;
      const cursor = encodeStruct(HIT, { shard, document, score, sortValues });
      expect(cursorOf(SEARCH, raw)).toBe(cursor.toString('base64url'));
    }
  });

  test('have the coverage of their answer if a shard is missing in it', () => {
    const coverageOf = (coverage: Coverage): unknown =>
      readFound(SEARCH, encoded({ total: 0n, hits: [], coverage, cursor: '' }), []).coverage;
    expect(coverageOf(WHOLE)).toBe(undefined);
    const named = { ...WHOLE, missing: [{ shard: 'w@1.0.0/0', lack: LACK.cutShort, why: 'no time' }] };
    for (const lacking of [named, { ...named, complete: 1 }, { ...WHOLE, complete: 1 }])
      expect(coverageOf(lacking)).toEqual(lacking);
  });
});
