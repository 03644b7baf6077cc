// The kit's callers for clusters: which outcomes they count as errors, and what they find in a ledger.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { checkLedger, ClusterCallers, type Door } from '../kit/cluster/callers.ts';
import { tally } from '../kit/cluster/cluster.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { until } from '../kit/tools/wait.ts';

/** A scripted JSON-RPC faceplate. Client 0 speaks JSON-RPC. */
interface FakeDoor {
  readonly door: Door;
  readonly taken: () => number;
  readonly server: Server;
}

/** What a fake does with its n-th call on a connection. */
type Act = 'answer' | 'answer and close' | 'answer and say so' | 'close' | 'answer another' | 'refuse';

describe('ClusterCallers', () => {
  const directories: string[] = [];
  const servers: Server[] = [];
  const sockets = new Set<Socket>();
  let mesh: MeshProcess | undefined;
  let callers: ClusterCallers | undefined;

  afterEach(async () => {
    await callers?.stop();
    callers = undefined;
    for (const socket of sockets) socket.destroy();
    await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
    await mesh?.end();
    mesh = undefined;
    for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
  });

  async function fakeDoor(name: string, act: (n: number) => Act): Promise<FakeDoor> {
    let taken = 0;
    const server = createServer((socket) => {
      taken++;
      let [n, inbox] = [0, ''];
      sockets.add(socket.on('close', () => sockets.delete(socket)).on('error', () => undefined));
      socket.on('data', (part) => {
        inbox += part.toString();
        const id = /"id":"([^"]+)","ms":\d+}}$/.exec(inbox)?.[1];
        if (id === undefined) return;
        inbox = '';
        reply(socket, act(n++), id);
      });
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    return { door: { name, host: '127.0.0.1', thriftPort: port, jsonRpcPort: port }, taken: () => taken, server };
  }

  test('do not count a connection closed between calls as an error, and continue on a new one', async () => {
    const { door, taken } = await fakeDoor('one', (n) => (n === 2 ? 'answer and say so' : 'answer'));
    callers = new ClusterCallers({ doors: [door], clients: 1, timeoutMs: 1_000, seed: 1 });
    await until('fifty connections', () => taken() >= 50);
    await callers.stop();
    expect(callers.ends).toEqual({ ok: callers.sent });
    expect(callers.sent).toBeGreaterThanOrEqual(147);
    expect(callers.closedBetween).toBeGreaterThanOrEqual(49);
    expect(callers.remarkable).toEqual([]);
  });

  test('recognize a call that crossed the end of its connection: no byte came, and the ledger shows that it never ran', async () => {
    const { door, taken } = await fakeDoor('one', (n) => (n === 2 ? 'answer and close' : n > 2 ? 'close' : 'answer'));
    callers = new ClusterCallers({ doors: [door], clients: 1, timeoutMs: 1_000, seed: 1 });
    await until('ten connections', () => taken() >= 10);
    await callers.stop();
    // Each end was noticed before the next call, or crossed it.
    const { lost = 0 } = callers.ends;
    expect(callers.closedBetween + lost).toBeGreaterThanOrEqual(9);
    expect(callers.remarkable.every(({ mayHaveCrossed }) => mayHaveCrossed)).toBe(true);
    expect(callers.failures([])).toEqual([]);
    const ran = callers.remarkable.map(({ id }) => `once ${id} 1`);
    expect(callers.failures(ran).length).toBe(lost);
  });

  test('count a call as lost when the connection ends during it, with the faceplate and the time', async () => {
    const { door, taken } = await fakeDoor('one', (n) => (n === 2 ? 'close' : 'answer'));
    callers = new ClusterCallers({ doors: [door], clients: 1, timeoutMs: 1_000, seed: 1 });
    await until('four connections', () => taken() >= 4);
    await callers.stop();
    const { ok = 0, lost = 0 } = callers.ends;
    expect(ok + lost).toBe(callers.sent);
    expect(lost).toBeGreaterThanOrEqual(3);
    expect(callers.closedBetween).toBe(0);
    expect(callers.failedSince(0).length).toBe(lost);
    const [first] = callers.remarkable;
    expect(first?.faceplate).toBe('one');
    expect(first?.end).toMatchObject({
      code: 'lost',
      message: expect.stringMatching(/closed [\d.]+ ms after/) as string,
    });
  });

  test('use the next faceplate when their own accepts no connection, and return to it', async () => {
    const [first, second] = [await fakeDoor('one', () => 'answer'), await fakeDoor('two', () => 'answer')];
    const { port } = first.server.address() as { port: number };
    await new Promise((resolve) => first.server.close(resolve));
    callers = new ClusterCallers({ doors: [first.door, second.door], clients: 1, timeoutMs: 1_000, seed: 1 });
    const { byFaceplate } = callers;
    await until('calls at the second', () => (byFaceplate['two'] ?? 0) > 0);
    expect(byFaceplate['one']).toBeUndefined();
    expect(callers.notTaken).toBeGreaterThan(0);
    await new Promise<void>((resolve) => first.server.listen(port, '127.0.0.1', resolve));
    await until('calls at the first', () => (byFaceplate['one'] ?? 0) > 0);
    await callers.stop();
    expect(callers.ends).toEqual({ ok: callers.sent });
  });

  test("distinguish replies to other calls and the mesh's refusals from replies", async () => {
    const acts: Act[] = ['answer another', 'refuse', 'answer'];
    const { door } = await fakeDoor('one', (n) => acts[n % 3] as Act);
    callers = new ClusterCallers({ doors: [door], clients: 1, timeoutMs: 1_000, seed: 1 });
    const { ends } = callers;
    await until('some of each', () => (ends['ok'] ?? 0) >= 2);
    await callers.stop();
    expect(Object.keys(ends).sort()).toEqual(['ok', 'overloaded', 'wrong_answer']);
    expect([callers.endOf('0-0'), callers.endOf('0-1'), callers.endOf('0-2')]).toEqual([
      'wrong_answer',
      'overloaded',
      'ok',
    ]);
    expect(callers.endOf(`0-${callers.sent}`)).toBeUndefined();
  });

  test('call a real mesh in three protocols, and the ledger of its chassis matches', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'katamari-tally-'));
    directories.push(directory);
    const ledger = path.join(directory, 'tally');
    mesh = await startMeshProcess({
      settings: { timeout: '5s' },
      deployments: [tally({ count: 2, env: { TALLY_LEDGER: ledger } })],
    });
    const own = mesh;
    const port = (address: string): number => Number(address.split(':').at(-1));
    const door = {
      name: 'one',
      host: '127.0.0.1',
      thriftPort: port(mesh.addresses.thrift),
      jsonRpcPort: port(mesh.addresses.jsonRpc),
    };
    await until('both copies', async () => (await own.status()).pools[0]?.alive === 2);
    callers = new ClusterCallers({ doors: [door], clients: 6, timeoutMs: 5_000, seed: 1 });
    const { ends } = callers;
    await until('answers', () => (ends['ok'] ?? 0) >= 200);
    await callers.stop();
    expect(ends).toEqual({ ok: callers.sent });
    expect(callers.tookMs(50)).toBeLessThanOrEqual(callers.tookMs(99));
    const { calls } = await mesh.status();
    expect([calls.accepted, calls.replied]).toEqual([callers.sent, callers.sent]);
    const { executions, ranAgain, ...wrong } = checkLedger(readFileSync(ledger, 'utf8').trim().split('\n'), callers);
    expect([executions, ranAgain]).toEqual([callers.sent, 0]);
    expect(wrong).toEqual({ ranTwice: [], answeredUnrun: [], refusedRan: [], ranUnanswered: [] });
  });
});

describe('checkLedger()', () => {
  test('finds calls that ran twice, refused calls that ran, and replies of calls that never ran', () => {
    const ends: Record<string, string> = { a: 'ok', b: 'ok', c: 'ok', d: 'overloaded', e: 'timeout', f: 'ok' };
    const callers = { endOf: (id: string) => ends[id], idsOf: () => ['a', 'b', 'c', 'f'], ends: { ok: 4 } };
    const lines = ['once a 1', 'once b 1', 'often c 1', 'once d 1', 'once b 2', 'often c 2', 'often c 3', 'once e 3'];
    expect(checkLedger(lines, callers)).toEqual({
      executions: 8,
      ranTwice: ['b in 1, 2'],
      ranAgain: 2,
      answeredUnrun: ['f'],
      refusedRan: ['d'],
      ranUnanswered: ['e'],
    });
  });
});

function reply(socket: Socket, act: Act, id: string): void {
  if (act === 'close') {
    socket.end();
    return;
  }
  const body =
    act === 'refuse'
      ? '{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"full","data":{"code":"overloaded"}}}'
      : JSON.stringify({ jsonrpc: '2.0', id: 1, result: `${act === 'answer another' ? 'x' : id} 1` });
  const header = act === 'answer and say so' ? 'connection: close\r\n' : '';
  socket.write(`HTTP/1.1 200 OK\r\n${header}content-length: ${body.length}\r\n\r\n${body}`);
  if (act !== 'answer and close' && act !== 'answer and say so') return;
  socket.end();
}
