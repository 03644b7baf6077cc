// Facts about replies for callers who ask: `onReply` through a real faceplate.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ClientReplyInfo } from '../../client/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import { ThriftException } from '../../core/thrift/mod.ts';
import { startFixture, type Fixture } from '../faceplates/thrift/fixture.ts';
import { refusalOf, rejectionOf } from '../kit/tools/rejection.ts';
import { client } from './fixture.ts';

let fixture: Fixture;
let address: string;
beforeEach(async () => {
  fixture = await startFixture();
  address = `127.0.0.1:${fixture.faceplate.port}`;
});
afterEach(() => fixture.end());

describe('onReply of a call', () => {
  test('gets version, tries and address before the call settles', async () => {
    const { exchange } = client(address);
    const order: unknown[] = [];
    const called = exchange.add({ a: 20, b: 22 }, { onReply: (info) => order.push(info) });
    order.push(await called);
    expect(order).toEqual([{ version: '1.0.0', coverage: undefined, tries: 1, address }, 42]);
  });

  test('is called for a declared exception, and not for other errors and oneway methods', async () => {
    const { exchange } = client(address);
    const infos: ClientReplyInfo[] = [];
    const onReply = (info: ClientReplyInfo): unknown => infos.push(info);
    expect(await rejectionOf(exchange.refuse({ why: 'no' }, { onReply }))).toBeInstanceOf(ThriftException);
    expect(infos).toMatchObject([{ version: '1.0.0', tries: 1 }]);
    await refusalOf(exchange.fail({ why: 'broken' }, { onReply }));
    await refusalOf(exchange.add({ a: 1, b: 2 }, { version: '9.0.0', onReply }));
    await exchange.note({ text: 'x' }, { onReply });
    expect(infos).toHaveLength(1);
  });

  test('that throws rejects its call, and the connection lives on', async () => {
    const { mesh, exchange } = client(address);
    const thrown = await rejectionOf(
      exchange.add(
        { a: 1, b: 2 },
        {
          onReply: () => {
            throw new RangeError('too little');
          },
        },
      ),
    );
    expect(thrown).toEqual(new RangeError('too little'));
    expect(await exchange.add({ a: 1, b: 2 })).toBe(3);
    expect(mesh.stats()).toMatchObject({ inFlight: 0, answered: 2, reconnects: 0 });
  });

  test('may close the client, and the call is canceled', async () => {
    const { mesh, exchange } = client(address);
    const error = await refusalOf(exchange.add({ a: 1, b: 2 }, { onReply: () => mesh.close() }));
    expect(error).toBeInstanceOf(KatamariError);
    expect([error.code, mesh.stats().inFlight]).toEqual(['cancelled', 0]);
  });
});
