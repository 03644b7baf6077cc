// The load balancer of docs/observability.md: HAProxy, with its check of /readyz every two seconds, in front of two
// faceplates that are restarted in turn. No call is refused, neither of clients that open a connection for each call
// nor of clients that keep theirs. KATAMARI_BALANCER_CALLS=100000 runs it with that many calls.

import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { encodeParams, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { frameMessage, MESSAGE_TYPE, NOTHING, type Interface, type Method } from '../../../core/thrift/mod.ts';
import { checkLedger, ClusterCallers } from '../../kit/cluster/callers.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import type { Host } from '../../kit/cluster/network.ts';
import { framedAnswer, readAnswer, type CallEnd } from '../../kit/mesh/callers.ts';
import { LoggedProcess } from '../../kit/tools/logged-process.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';
import { toolPath } from '../../kit/tools/tools.ts';
import { until } from '../../kit/tools/wait.ts';

const CALLS = Number(process.env['KATAMARI_BALANCER_CALLS'] ?? 10_000);
const TIMEOUT_MS = 10_000;
/** Clients that connect for each call, half of them by Thrift. */
const SHORT_CLIENTS = 16;
/** Clients that keep their connection. */
const LONG_CLIENTS = 8;
const FIRST_BYTES = 64;

const tallyIdl = parseIdl(readIdlFile(new URL('../../fixtures/chassis/tally.thrift', import.meta.url)));
const once = (tallyIdl.services.get('Tally') as Interface).methods.get('once') as Method;

let cluster: Cluster;
reportFailures(() => cluster);
let balancer: Host;
let haproxy: LoggedProcess;
let callers: ClusterCallers;

beforeAll(async () => {
  cluster = await startCluster({
    consuls: 1,
    masters: 1,
    managers: 1,
    faceplates: 2,
    // The default of the product, which the page promises to be enough.
    settings: (_name, role) => (role === 'faceplate' ? { shutdownDelay: '5s' } : {}),
    deployments: [tally({ count: 4 })],
  });
  balancer = await cluster.network.addHost('balancer');
  haproxy = startBalancer();
  await until('both servers to be up', async () => (await serversUp()) === 2 * 2);
}, 120_000);

afterAll(async () => {
  await callers?.stop();
  await haproxy?.kill();
  await cluster?.end();
});

test('Faceplates behind the documented balancer are restarted in turn, and no call is refused', async () => {
  callers = new ClusterCallers({
    doors: [{ name: 'balancer', host: balancer.address, thriftPort: 9090, jsonRpcPort: 9080 }],
    clients: LONG_CLIENTS,
    timeoutMs: TIMEOUT_MS,
    longestMs: 2,
    seed: 909,
  });
  let isOver = false;
  let sent = 0;
  const refused: string[] = [];
  const short = Array.from({ length: SHORT_CLIENTS }, async (_, n) => {
    while (!isOver) {
      const id = `short-${sent++}`;
      const end = await (n % 2 === 0 ? callThrift(id) : callJson(id));
      if (!end.ok) refused.push(`${id} ${end.code}: ${end.message}`);
    }
  });
  let restarts = 0;
  while (restarts < 2 || sent + callers.sent < CALLS) {
    const faceplate = cluster.faceplates[restarts++ % 2];
    const ended = await faceplate?.stop();
    expect(ended).toEqual({ code: 0, signal: null });
    faceplate?.start();
    await faceplate?.untilReady();
    await until('the balancer to use it again', async () => (await serversUp()) === 2 * 2);
  }
  isOver = true;
  await Promise.all(short);
  await callers.stop();
  const ledger = cluster.ledger();
  const failures = callers.failures(ledger).map(({ id, protocol, end }) => `${id} ${protocol} ${JSON.stringify(end)}`);
  const crossed = callers.failedSince(0).length - failures.length;
  console.log(
    `${sent} calls with a connection each and ${callers.sent} on kept connections, ${restarts} restarts: ` +
      `${refused.length} and ${failures.length} refused, ${crossed} crossed the end of their connection unrun`,
  );
  expect(refused).toEqual([]);
  expect(failures).toEqual([]);
  expect(
    checkLedger(
      ledger.filter((line) => !line.includes(' short-')),
      callers,
    ),
  ).toMatchObject({ ranTwice: [] });
}, 1_800_000);

/** The backend of the page, for both ports of the faceplates, with frontends and a page of figures. */
function startBalancer(): LoggedProcess {
  const page = readFileSync(path.join(REPOSITORY, 'docs/observability.md'), 'utf8');
  const backend = /^backend thrift\n(?: {2}.*\n)+/m.exec(page)?.[0];
  if (backend?.includes('GET /readyz') !== true) throw new Error('docs/observability.md shows no backend with /readyz');
  const [one, two] = cluster.faceplates;
  const here = backend.replaceAll('10.0.0.1', one?.host.address ?? '').replaceAll('10.0.0.2', two?.host.address ?? '');
  const config = `
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend thrift-in
  mode tcp
  bind ${balancer.address}:9090
  default_backend thrift
frontend json-in
  mode tcp
  bind ${balancer.address}:9080
  default_backend json
${here}
${here.replace('backend thrift', 'backend json').replaceAll(':9090', ':9080')}
frontend figures
  mode http
  bind ${balancer.address}:9000
  stats enable
  stats uri /
`;
  const file = path.join(cluster.directory, 'haproxy.cfg');
  writeFileSync(file, config);
  return new LoggedProcess([toolPath('haproxy'), '-f', file], {
    cwd: cluster.directory,
    env: {},
    log: path.join(cluster.directory, 'haproxy.log'),
  });
}

/** Servers of both backends that the balancer uses. */
async function serversUp(): Promise<number> {
  const response = await fetch(`http://${balancer.address}:9000/;csv`).catch(() => undefined);
  const lines = ((await response?.text()) ?? '').split('\n');
  const status = lines[0]?.split(',').indexOf('status') ?? -1;
  const isServer = ([backend = '', server = '']: string[]): boolean =>
    (backend === 'thrift' || backend === 'json') && (server === 'one' || server === 'two');
  return lines.map((line) => line.split(',')).filter((cells) => isServer(cells) && cells[status] === 'UP').length;
}

function callThrift(id: string): Promise<CallEnd> {
  const bytes = frameMessage(MESSAGE_TYPE.call, 'Tally:once', 7, encodeParams(once, { id, ms: 1 }), NOTHING);
  return exchange(9090, bytes, (inbox) => {
    const answer = framedAnswer(inbox);
    return answer === undefined ? undefined : readAnswer(answer, once, 7);
  });
}

function callJson(id: string): Promise<CallEnd> {
  const body = JSON.stringify({ jsonrpc: '2.0', id, method: 'Tally.once', params: { id, ms: 1 } });
  const head = `POST /rpc HTTP/1.1\r\nHost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n`;
  const bytes = Buffer.from(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  return exchange(9080, bytes, (inbox) => {
    const text = inbox.toString();
    const length = /^content-length: *(\d+)/im.exec(text)?.[1];
    const start = text.indexOf('\r\n\r\n') + 4;
    if (length === undefined || start === 3 || inbox.length < start + Number(length)) return undefined;
    const { error } = JSON.parse(text.slice(start)) as { error?: { message: string; data: { code: string } } };
    if (error === undefined) return { ok: true, value: '' };
    return { ok: false, code: error.data.code, message: error.message };
  });
}

/** One call on a connection of its own. */
function exchange(port: number, bytes: Uint8Array, read: (inbox: Buffer) => CallEnd | undefined): Promise<CallEnd> {
  return new Promise((resolve) => {
    let inbox: Buffer = Buffer.alloc(0);
    const socket = connect(port, balancer.address, () => socket.write(bytes));
    const lost = (why: string) => (): void => {
      resolve({ ok: false, code: 'lost', message: `${why} after ${inbox.subarray(0, FIRST_BYTES).length} bytes` });
      socket.destroy();
    };
    socket.setNoDelay(true);
    socket.setTimeout(TIMEOUT_MS + 5_000, lost('silent'));
    socket.on('data', (part: Buffer) => {
      inbox = Buffer.concat([inbox, part]);
      const end = read(inbox);
      if (end === undefined) return;
      resolve(end);
      socket.destroy();
    });
    socket.on('error', lost('broken'));
    socket.on('close', lost('closed'));
  });
}
