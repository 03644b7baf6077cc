// The generic client of Apache's `thrift` package against a server that answers with our own codec: values of every
// type arrive and come back unchanged.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeStruct, encodeStruct, parseIdl } from '../../../../core/idl/mod.ts';
import { startLinkServer } from '../../../../core/link/mod.ts';
import { DEFAULT_LIMITS, KatamariError } from '../../../../core/mod.ts';
import { NO_REPLY_CONTEXT, sendOf } from '../../../../core/rpc/mod.ts';
import type { Method } from '../../../../core/thrift/mod.ts';
import { ApacheClient } from '../../../../services/cli/conform/apache-client.ts';
import { isSame, structValue } from '../../../../services/cli/conform/values.ts';

const IDL = `
enum Colour { RED = 1, INFRARED = -700 }
struct Leaf { 1: string text, 2: i32 number = 7 }
union Either { 1: i32 number, 2: Leaf leaf }
struct All {
  1: bool flag, 2: i8 tiny, 3: i16 small, 4: i32 whole, 5: i64 large, 6: double real, 7: string text, 8: binary bytes
  9: uuid id, 10: Colour colour, 11: Leaf leaf, 12: Either either, 13: list<uuid> ids, 14: set<Leaf> leaves
  15: map<i64, list<map<string, binary>>> nested, 16: optional All next
}
service Echo { All echo(1: All value), void nothing() }`;
const ECHO = parseIdl({ main: 'echo.thrift', files: { 'echo.thrift': IDL } }).services.get('Echo');
const method = (name: string): Method => ECHO?.methods.get(name) as Method;

describe('ApacheClient', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'katamari-apache-'));
  let server: Awaited<ReturnType<typeof startLinkServer>>;
  let client: ApacheClient;

  beforeAll(async () => {
    server = await startLinkServer(`unix:${path.join(folder, 'echo.sock')}`, {
      send: sendOf((call) => {
        if (call.method === 'refuse') return Promise.reject(new KatamariError('no_pool', 'refused'));
        const { args, result } = method(call.method);
        const success = decodeStruct(args, call.args)['value'];
        return Promise.resolve({
          isException: false,
          body: encodeStruct(result, { success }),
          context: NO_REPLY_CONTEXT,
        });
      }),
      limits: DEFAULT_LIMITS,
      timeoutMs: () => 10_000,
      caller: 'test',
    });
    client = new ApacheClient(server.address, 10_000, {
      '': [...(ECHO?.methods.values() ?? []), { ...method('nothing'), name: 'refuse' }],
      Echo: [method('nothing')],
    });
  });
  afterAll(async () => {
    await client.close();
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  for (const style of ['plain', 'bare', 'most', 'least'] as const) {
    test(`sends and reads ${style} values of every type`, async () => {
      const args = structValue(method('echo').args, style);
      const reply = await client.call({ method: method('echo'), args });
      expect(reply.kind).toBe('result');
      if (reply.kind === 'result') expect(isSame(reply.fields, { success: args['value'] })).toBe(true);
      expect(isSame(decodeStruct(method('echo').result, reply.body), { success: args['value'] })).toBe(true);
    });
  }

  test('reads a void reply to a multiplexed call, and a TApplicationException with its type', async () => {
    const both = await Promise.all([
      client.call({ service: 'Echo', method: method('nothing') }),
      client.call({ method: { ...method('nothing'), name: 'refuse' } }),
    ]);
    expect(both).toMatchObject([
      { kind: 'result', fields: {} },
      { kind: 'exception', message: expect.stringContaining('refused') as string },
    ]);
  });
});
