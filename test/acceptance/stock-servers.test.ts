// Common Thrift servers in Python and Ruby without any Katamari code. Configuration alone makes each a pool of 4.

import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestMesh, type DeploymentText, type TestMesh } from '../kit/mesh/mesh.ts';
import { rawThrift } from '../kit/wire/raw-thrift.ts';
import { generate, type Generated } from '../kit/wire/thrift-client.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { frameMessage, MESSAGE_TYPE } from '../../core/thrift/mod.ts';
import { until } from '../kit/tools/wait.ts';

const IDL = path.join(REPOSITORY, 'test/fixtures/idl/stock.thrift');

/** The kind of server, in the terms of its library and of katamari.yaml. */
interface Stock {
  readonly language: 'python' | 'ruby';
  readonly kind: 'simple' | 'threaded' | 'pool';
  readonly transport: string;
  readonly protocol: string;
  readonly listen?: 'unix';
  readonly concurrency?: number;
  /** 4 by default; the other servers are here for their transports and protocols. */
  readonly copies?: number;
}

const STOCKS: readonly Stock[] = [
  { language: 'python', kind: 'simple', transport: 'framed', protocol: 'binary' },
  { language: 'python', kind: 'simple', transport: 'buffered', protocol: 'binary' },
  { language: 'python', kind: 'simple', transport: 'framed', protocol: 'compact' },
  { language: 'python', kind: 'simple', transport: 'buffered', protocol: 'json' },
  { language: 'python', kind: 'threaded', transport: 'header', protocol: 'compact', concurrency: 2 },
  { language: 'ruby', kind: 'simple', transport: 'buffered', protocol: 'binary' },
  { language: 'ruby', kind: 'pool', transport: 'framed', protocol: 'compact', listen: 'unix', copies: 2 },
  { language: 'ruby', kind: 'simple', transport: 'framed', protocol: 'json', copies: 2 },
  { language: 'ruby', kind: 'simple', transport: 'framed', protocol: 'old-binary', copies: 2 },
];

let generated: Generated;
let mesh: TestMesh;
beforeAll(async () => {
  generated = await generate(IDL);
  await promisify(execFile)(toolPath('thrift'), ['-o', generated.directory, '--gen', 'rb', IDL]);
  mesh = await startTestMesh([
    ...STOCKS.map((stock, n) => deploymentOf(stock, versionOf(n), { count: stock.copies ?? 4 })),
    deploymentOf(STOCKS[0] as Stock, '100.0.0', {
      healthCheck: 'isWell',
      pingEvery: '50ms',
      pingTimeout: '300ms',
    }),
  ]);
  await mesh.mesh.whenReady;
});
afterAll(async () => {
  await mesh.end();
  generated.remove();
});

describe.each(STOCKS.map((stock, n) => ({ ...stock, version: versionOf(n) })))(
  'A stock server: $language, $kind, $transport, $protocol',
  ({ version, language, concurrency = 1, copies = 4 }) => {
    const id = `Stock@${version}`;
    const call = (method: string, params?: unknown) => mesh.call(`${id}.${method}`, params);

    test('answers like a pool of chassis, and each copy has its own connections', async () => {
      expect((await call('add', { num1: 2, num2: -40 })).result).toBe(-38);
      const parcel = {
        bytes: Buffer.from([0, 0xff, 0x80, 0x0a, 0x22]).toString('base64'),
        sizes: { größer: '9007199254740993', '': -1 },
        weights: [0.1, -1e300],
        inner: { bytes: '', sizes: {}, weights: [] },
      };
      expect((await call('echo', { parcel })).result).toEqual(parcel);
      expect((await call('refuse', { why: 'because' })).error).toMatchObject({
        code: -32_050,
        data: { exception: 'Refused', why: 'because' },
      });
      expect((await call('fail')).error?.message).toContain('Internal error');

      const calls = copies * concurrency;
      const naps = await Promise.all(Array.from({ length: calls }, () => call('nap', { seconds: 0.2 })));
      expect(naps.map(({ error }) => error)).toEqual(Array(calls).fill(undefined));
      expect(new Set(naps.map(({ result }) => result)).size).toBe(copies);
      expect((await call('connections')).result).toBe(concurrency);
    });

    test('gets oneway calls as such, and no reply is taken for that of another call', async () => {
      // Ruby's library replies to a oneway call that fails.
      for (const word of ['one', language === 'ruby' ? '' : 'none', 'two']) {
        expect((await call('note', { word })).error).toBeUndefined();
        expect((await call('add', { num1: 1, num2: 1 })).result).toBe(2);
      }
      const noted = await Promise.all(Array.from({ length: copies * 2 }, () => call('notes')));
      expect(noted.flatMap(({ result }) => result as string[])).toContain('two');
    });

    test('never receives a field that its own interface does not have', async () => {
      const headers = {
        'katamari-key': 'sticky',
        'katamari-tags': 'fast',
        traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
      };
      await mesh.call(`${id}.add`, { num1: 1, num2: 2 }, headers);
      await mesh.call(`${id}.note`, { word: 'three' }, headers);
      // A client's own context is removed without an error. A field of a newer interface passes, so notes are used
      // here.
      const client = await rawThrift(Number(mesh.mesh.addresses.thrift.split(':').at(-1)));
      const context = Buffer.from('0c7fff0b0002000000013900', 'hex');
      const numbers = Buffer.from('0800010000000108000200000002', 'hex');
      const newer = Buffer.from('0b000900000000', 'hex');
      client.send(frameMessage(MESSAGE_TYPE.call, `${id}:add`, 1, context, Buffer.concat([numbers, Buffer.of(0)])));
      await client.count(1);
      client.send(frameMessage(MESSAGE_TYPE.call, `${id}:add`, 2, numbers, Buffer.concat([newer, Buffer.of(0)])));
      const answers = await client.count(2);
      client.destroy();
      expect(answers.map(({ type }) => type)).toEqual([MESSAGE_TYPE.reply, MESSAGE_TYPE.reply]);
      // A oneway call is answered before it is served: other copies get the calls after it.
      const lists = await Promise.all(Array.from({ length: copies * 2 }, () => mesh.call(`${id}.seen`, {}, headers)));
      const all = lists.flatMap(({ result }) => result as string[]);
      expect(all).toEqual(expect.arrayContaining(['add 1 2', 'note 1', 'add 1 2 9', 'seen']));
      const seen = all.filter((one) => one !== 'add 1 2 9');
      const allowed = /^(add 1 2|echo 1( [1-4])+|(refuse|nap|note|sicken) 1|fail|pid|notes|seen|connections|isWell)$/;
      expect(seen.filter((one) => !allowed.test(one))).toEqual([]);
    });

    test('is restarted when it is killed, and the call goes to another copy', async () => {
      const before = (await call('pid')).result as number;
      process.kill(before, 'SIGKILL');
      const after = await call('pid');
      expect([after.error, after.result === before]).toEqual([undefined, false]);
      await until('all copies', () => {
        const { alive, resources } = mesh.pool(id);
        return alive === copies && resources.every(({ pid }) => pid !== before);
      });
    });
  },
);

describe('A health check', () => {
  const id = 'Stock@100.0.0';
  const failed = (): number => mesh.pool(id).restartsByReason.ping_failed ?? 0;

  test.each([
    { how: 'refuse', note: 'ping_failed: its health check isWell answered with exception Refused' },
    { how: 'fail', note: 'ping_failed: its health check isWell failed: Internal error' },
    { how: 'hang', note: 'it did not answer its health check isWell within 300 ms' },
  ])('replaces a server whose method goes on to $how', async ({ how, note }) => {
    const [before, failures] = [(await mesh.call(`${id}.pid`)).result, failed()];
    expect((await mesh.call(`${id}.sicken`, { how })).error).toBeUndefined();
    await until('another copy', () => failed() === failures + 1 && mesh.pool(id).alive === 1);
    expect((await mesh.call(`${id}.pid`)).result).not.toBe(before);
    expect(mesh.events.map(({ text }) => text).join('\n')).toContain(note);
  });

  test('keeps a server that is unhealthy at its start away from callers', async () => {
    // Over a socket, because another mesh in this process would use the same ports.
    const plain = deploymentOf({ ...(STOCKS[0] as Stock), language: 'ruby', listen: 'unix' }, '1.0.0', {});
    const sick = await startTestMesh(
      [
        {
          ...plain,
          healthCheck: 'isWell',
          env: { ...(plain['env'] as object), SICKNESS: 'refuse' },
          restart: { intensity: 1, backoffFirst: '20s' },
        },
      ],
      { timeout: '500ms' },
    );
    try {
      const words = 'start_failed: its health check isWell answered with exception Refused';
      await until('its end', () => sick.events.some(({ text }) => text.includes(words)));
      expect((await sick.call('Stock.add', { num1: 1, num2: 2 })).error).toBeDefined();
    } finally {
      await sick.end();
    }
  });

  test('does not count in the statistics, and its replies reach no caller', async () => {
    for (let n = 0; n < 200; n++) expect((await mesh.call(`${id}.add`, { num1: n, num2: 1 })).result).toBe(n + 1);
    expect(failed()).toBe(3);
  });
});

function versionOf(n: number): string {
  return `${n + 1}.0.0`;
}

function deploymentOf(stock: Stock, version: string, change: Readonly<Record<string, unknown>>): DeploymentText {
  const { language, kind, transport, protocol, listen, concurrency } = stock;
  const program = path.join(REPOSITORY, 'test/fixtures/stock', language === 'python' ? 'serve.py' : 'serve.rb');
  const [interpreter, library, where] =
    language === 'python'
      ? [['/usr/bin/python3'], { PYTHONPATH: path.join(generated.directory, 'gen-py') }, { PORT: '{port}' }]
      : [[toolPath('ruby'), '-I', path.join(generated.directory, 'gen-rb')], {}, { LISTEN: '{listen}' }];
  return {
    service: 'Stock',
    version,
    kit: 'none',
    idl: IDL,
    transport,
    protocol,
    command: [...interpreter, program, kind, transport, protocol],
    env: { ...library, ...where },
    ...(listen === undefined ? {} : { listen }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...change,
  };
}
