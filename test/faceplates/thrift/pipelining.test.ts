// Several calls in flight on one connection: the order of replies, and every way to cut a stream into pieces.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Random } from '../../kit/tools/random.ts';
import type { Answer } from '../../kit/wire/raw-thrift.ts';
import { until } from '../../kit/tools/wait.ts';
import { decodeStruct } from '../../../core/idl/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { startFixture, type Fixture } from './fixture.ts';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await startFixture();
});
afterEach(() => fixture.end());

for (const framed of [true, false]) {
  describe(`A ${framed ? 'framed' : 'unframed'} connection`, () => {
    test('answers 1,000 pipelined calls in order, each with its own result and sequence id', async () => {
      const client = await fixture.connect(framed);
      const calls = Array.from({ length: 1_000 }, (_, i) =>
        fixture.bytes('add', { a: i, b: 5 }, { framed, seqId: 7 * i - 3_000 }),
      );
      client.send(Buffer.concat(calls));
      const answers = await client.count(1_000);
      expect(answers.map(({ seqId }) => seqId)).toEqual(calls.map((_, i) => 7 * i - 3_000));
      expect(answers.map((answer) => success('add', answer))).toEqual(calls.map((_, i) => i + 5));
      expect(new Set(answers.map(({ type, name }) => `${type} ${name}`))).toEqual(new Set(['2 add']));
    });

    test('keeps the order when later calls end first', async () => {
      const client = await fixture.connect(framed);
      const keys = ['a', 'b', 'c', 'd'];
      client.send(Buffer.concat(keys.map((key, i) => fixture.bytes('hold', { key }, { framed, seqId: i }))));
      client.send(fixture.bytes('add', { a: 1, b: 1 }, { framed, seqId: 99 }));
      await until('all to begin', () => fixture.behind.calls.length === 5);
      for (const key of ['c', 'b', 'd']) fixture.behind.release(key);
      await until('three and the sum to end', () => fixture.callStats.sums().replied === 4);
      expect(client.answers).toHaveLength(0);
      fixture.behind.release('a');
      const answers = await client.count(5);
      expect(answers.slice(0, 4).map((answer) => success('hold', answer))).toEqual(keys);
      expect(answers.map(({ seqId }) => seqId)).toEqual([0, 1, 2, 3, 99]);
    });

    test('understands calls byte by byte and in any other pieces', async () => {
      const client = await fixture.connect(framed);
      client.socket.setNoDelay(true);
      const random = new Random(31);
      const texts = Array.from({ length: 30 }, () => 'x'.repeat(random.below(random.chance(0.1) ? 70_000 : 40)));
      const stream = Buffer.concat(texts.map((text, i) => fixture.bytes('echo', { text }, { framed, seqId: i })));
      for (let at = 0; at < stream.length;) {
        const end = at + (at < 300 ? 1 : random.between(1, random.pick([10, 300, 30_000])));
        client.send(stream.subarray(at, end));
        at = end;
        // One turn of the event loop per piece, so that pieces arrive as pieces.
        await new Promise((resolve) => setImmediate(resolve));
      }
      const answers = await client.count(texts.length);
      expect(answers.map((answer) => success('echo', answer))).toEqual(texts);
    });

    test('returns sequence ids of the whole range', async () => {
      const client = await fixture.connect(framed);
      const ids = [0, -1, 2 ** 31 - 1, -(2 ** 31), 0x01020304, 0x01020304];
      client.send(Buffer.concat(ids.map((seqId) => fixture.bytes('add', { a: 1, b: 2 }, { framed, seqId }))));
      expect((await client.count(ids.length)).map(({ seqId }) => seqId)).toEqual(ids);
    });

    test('does not answer oneway calls, valid or not, and keeps the order of the others', async () => {
      const client = await fixture.connect(framed);
      client.send(
        Buffer.concat([
          fixture.bytes('add', { a: 1, b: 2 }, { framed, seqId: 1 }),
          fixture.bytes('note', { text: 'x' }, { framed, seqId: 2, type: 4 }),
          fixture.bytes('note', { text: 'from an old client' }, { framed, seqId: 3, type: 1 }),
          fixture.bytes('note', { text: 'y' }, { framed, seqId: 4, type: 4, name: 'Nobody:note' }),
          fixture.bytes('add', { a: 3, b: 4 }, { framed, seqId: 5 }),
        ]),
      );
      expect((await client.count(2)).map(({ seqId }) => seqId)).toEqual([1, 5]);
      await until('all to settle', () => fixture.callStats.sums().inFlight === 0);
      expect(client.answers).toHaveLength(2);
      expect(fixture.callStats.sums()).toMatchObject({ accepted: 5, replied: 4, refused: 1 });
      expect(fixture.behind.handled.map(({ method }) => method)).toEqual(['add', 'note', 'note', 'add']);
    });

    test('carries replies of megabytes, several at a time', async () => {
      const client = await fixture.connect(framed);
      const texts = [1, 2, 3, 4].map((n) => String(n).repeat(n * 1_000_000));
      client.send(Buffer.concat(texts.map((text) => fixture.bytes('echo', { text }, { framed }))));
      const answers = await client.count(4);
      // Compared one by one: a diff of megabytes would bury the report.
      for (const [i, text] of texts.entries()) expect(success('echo', answers[i] as Answer) === text).toBe(true);
    });
  });
}

describe('With pipelineMax', () => {
  for (const pipelineMax of [1, 2, 7]) {
    test(`of ${pipelineMax}, at most that many are dispatched at a time and all are answered in order`, async () => {
      const limited = await startFixture({ limits: { pipelineMax } });
      try {
        const client = await limited.connect();
        const keys = Array.from({ length: 40 }, (_, i) => `k${i}`);
        client.send(Buffer.concat(keys.map((key, i) => limited.bytes('hold', { key }, { seqId: i }))));
        let most = 0;
        for (const key of keys) {
          await until(`${key} to begin`, () => limited.behind.held().includes(key));
          most = Math.max(most, limited.behind.held().length);
          limited.behind.release(key);
        }
        expect(most).toBeLessThanOrEqual(pipelineMax);
        expect((await client.count(40)).map(({ seqId }) => seqId)).toEqual(keys.map((_, i) => i));
      } finally {
        await limited.end();
      }
    });
  }
});

function success(method: string, answer: Answer): unknown {
  const { result } = fixture.behind.interface.methods.get(method) as Method;
  return decodeStruct(result, answer.body)['success'];
}
