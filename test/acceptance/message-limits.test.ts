// Limits that are set hold in every process that reads a message, and a message beyond them costs its own call alone.

import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { decodeStruct, encodeStruct, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { readApplicationException, type Interface, type Method } from '../../core/thrift/mod.ts';
import { fixture, startTestMesh, type JsonRpcAnswer, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';
import { callBytes, rawThrift, type Answer } from '../kit/wire/raw-thrift.ts';

const IDL = fileURLToPath(new URL('../fixtures/chassis/limits.thrift', import.meta.url));
const limits = parseIdl(readIdlFile(IDL)).services.get('Limits') as Interface;

let mesh: TestMesh;
afterEach(async () => {
  await mesh.end();
});

describe('limits.frame and limits.nesting', () => {
  test('a call of 20 MB passes a limit of 32 MiB to a chassis, and its answer back', async () => {
    await start({ limits: { frame: '32MiB' } });
    const bytes = Buffer.alloc(20_000_000, 'x');
    for (let n = 0; n < 3; n++) expect(valueOf('size', await call('size', { bytes }))).toBe(bytes.length);
    expect((valueOf('blob', await call('blob', { bytes: bytes.length })) as Buffer).length).toBe(bytes.length);
    expectUnharmed();
  });

  test('a tree 33 and 90 deep passes a limit of 200 levels, and one beyond it costs its own call', async () => {
    await start({ limits: { nesting: 200 } });
    for (const depth of [33, 90]) {
      const tree = treeOf(depth);
      expect(valueOf('tree', await call('tree', { tree }))).toEqual(tree);
      expect((await mesh.call('Limits.tree', { tree })).result).toEqual(tree);
    }
    await expect(mesh.call('Limits.grow', { depth: 90 }).then(({ result }) => result)).resolves.toEqual(treeOf(90));
    const { error } = await mesh.call('Limits.grow', { depth: 110 });
    expect(error?.data).toEqual({ code: 'too_large' });
    expect(error?.message).toMatch(/Limits@1\.0\.0\/1 answered grow beyond the limits: .* deeper than 200, the limit/);
    expectUnharmed();
  });

  test('a message of exactly the default limit is answered, and so is an answer of exactly the limit', async () => {
    await start();
    const frameMax = 16 * 1024 * 1024;
    const overhead = callBytes(limits, 'size', { bytes: Buffer.alloc(0) }, { name: 'Limits:size' }).length - 4;
    for (const spare of [16, 0]) {
      const bytes = Buffer.alloc(frameMax - overhead - spare);
      expect(valueOf('size', await call('size', { bytes }))).toBe(bytes.length);
    }
    // Head with the name `blob`, field head, length, stop byte.
    const most = frameMax - (12 + 4) - (3 + 4 + 1);
    expect((valueOf('blob', await call('blob', { bytes: most })) as Buffer).length).toBe(most);
    const { error } = await mesh.call('Limits.blob', { bytes: most + 1 });
    expect([error?.code, error?.data]).toEqual([-32_008, { code: 'too_large' }]);
    expect(error?.message).toBe(
      `The answer of Limits.blob has ${frameMax + 1} bytes, limit is ${frameMax}; return less, or raise limits.frame`,
    );
    expectUnharmed();
  });

  test('an answer that is too large or does not fit its type is the error of its call, and neighbors finish', async () => {
    await start({}, { env: { LIMITS_CONCURRENCY: '8' } });
    const naps = Array.from({ length: 6 }, (_, n) => mesh.call('Limits.nap', { ms: 1_000 + n }));
    await until('the calls to run', () => mesh.ledger().length === 6);
    const tooLarge = await mesh.call('Limits.blob', { bytes: 17_000_000 });
    expect([tooLarge.status, tooLarge.error?.data]).toEqual([413, { code: 'too_large' }]);
    const misfit = await mesh.call('Limits.misfit', {});
    expect(misfit.error?.message).toBe('Limits.misfit failed: success: expected i32, got "seven"');
    const { pid } = mesh.pool('Limits@1.0.0').resources[0] as { pid: number };
    expect((await Promise.all(naps)).map(({ result }: JsonRpcAnswer) => result)).toEqual(Array(6).fill(pid));
    expectUnharmed();
  });
});

async function start(settings: object = {}, change: object = {}): Promise<void> {
  mesh = await startTestMesh([{ service: 'Limits', version: '1.0.0', command: fixture('limits.ts'), ...change }], {
    ...settings,
  });
  await mesh.mesh.whenReady;
}

/** One framed call over a connection of its own. */
async function call(method: string, args: Record<string, unknown>): Promise<Answer> {
  const client = await rawThrift(Number(mesh.mesh.addresses.thrift.split(':').at(-1)));
  try {
    client.send(callBytes(limits, method, args, { name: `Limits:${method}` }));
    return (await client.count(1))[0] as Answer;
  } finally {
    client.destroy();
  }
}

function valueOf(name: string, { type, body }: Answer): unknown {
  if (type === 3) throw new Error(readApplicationException(body).message);
  return decodeStruct((limits.methods.get(name) as Method).result, body)['success'];
}

function treeOf(depth: number): object {
  let tree: object = {};
  for (let n = 1; n < depth; n++) tree = { children: [tree] };
  encodeStruct((limits.methods.get('tree') as Method).args, { tree });
  return tree;
}

/** The process that was started first serves on. */
function expectUnharmed(): void {
  const { alive, restartsByReason } = mesh.pool('Limits@1.0.0');
  expect([alive, restartsByReason]).toEqual([1, {}]);
}
