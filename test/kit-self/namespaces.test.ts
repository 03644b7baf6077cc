// The kit's network of namespaces, tested with real sockets: packets on a cut path are lost silently, and arrive
// again when it is healed.

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { namespaceLeftovers, namespaceNetwork, type NamespaceNetwork } from '../kit/cluster/namespaces.ts';
import type { Host } from '../kit/cluster/network.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';

/** A small Python program: sends each line from standard input to a UDP port, and prints what its own port receives. */
const TALKER = `
import socket, sys, threading
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind((sys.argv[1], 5000))
def listen():
    while True:
        print(own.recv(1000).decode(), flush=True)
threading.Thread(target=listen, daemon=True).start()
print('ready', flush=True)
for line in sys.stdin:
    to, text = line.split()
    try:
        own.sendto(text.encode(), (to, 5000))
        print('sent', text, flush=True)
    except OSError as error:
        print('refused', text, error, flush=True)
`;

/** Echoes its input on TCP port 6000. */
const ECHO = `
import socket, sys, threading
server = socket.create_server((sys.argv[1], 6000))
print('ready', flush=True)
def serve(peer):
    while True:
        data = peer.recv(1000)
        if not data: return
        peer.sendall(data)
while True:
    peer, _ = server.accept()
    threading.Thread(target=serve, args=(peer,), daemon=True).start()
`;

describe('A network of namespaces', () => {
  let network: NamespaceNetwork;
  let [a, b]: Host[] = [];
  const children: ChildProcess[] = [];
  const sockets: Socket[] = [];

  beforeAll(async () => {
    network = await namespaceNetwork();
    [a, b] = [await network.addHost('a'), await network.addHost('b')];
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await Promise.all(children.splice(0).map(end));
    await network.heal(a as Host, b as Host);
  });
  afterAll(async () => {
    await network.end();
    expect((await namespaceLeftovers()).filter((name) => isOurs(name))).toEqual([]);
  });

  /** Starts a program on a host and waits until it is ready. */
  async function python(host: Host, program: string) {
    const [first = '', ...rest] = host.command(['/usr/bin/python3', '-c', program, host.address]);
    const child = spawn(first, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (part: string) => (said += part));
    const says = async (what: string): Promise<void> =>
      void (await until(`"${what}" on ${host.name}; so far: ${said}`, () => said.split('\n').includes(what)));
    await says('ready');
    return { said: () => said, says, write: (line: string) => void child.stdin.write(`${line}\n`) };
  }

  test('cuts one direction silently: the sender gets no error, the other direction works, and heal restores it', async () => {
    const [one, other] = [a as Host, b as Host];
    const [from, to] = [await python(one, TALKER), await python(other, TALKER)];
    from.write(`${other.address} whole`);
    await to.says('whole');
    await network.cut(one, other, 'one way');
    from.write(`${other.address} lost`);
    await from.says('sent lost');
    // The other direction works, and a round trip takes longer than a packet that was sent before.
    to.write(`${one.address} back`);
    await from.says('back');
    await network.heal(one, other, 'one way');
    from.write(`${other.address} healed`);
    await to.says('healed');
    expect(to.said()).not.toContain('lost');
    expect(from.said()).not.toContain('refused');
  });

  test('cuts both directions', async () => {
    const [one, other] = [a as Host, b as Host];
    const [left, right] = [await python(one, TALKER), await python(other, TALKER)];
    await network.cut(one, other);
    left.write(`${other.address} there`);
    right.write(`${one.address} back`);
    await left.says('sent there');
    await right.says('sent back');
    await network.heal(one, other);
    // The first datagrams may be lost: the kernel looks up the link addresses anew after a cut.
    await until('a datagram to the right', () => {
      left.write(`${other.address} again`);
      return right.said().split('\n').includes('again');
    });
    await until('a datagram to the left', () => {
      right.write(`${one.address} too`);
      return left.said().split('\n').includes('too');
    });
    expect(right.said().split('\n')).not.toContain('there');
    expect(left.said().split('\n')).not.toContain('back');
  });

  test('keeps an open connection through a cut: data written meanwhile arrive when it is healed', async () => {
    const server = b as Host;
    await python(server, ECHO);
    const socket = connect(6000, server.address);
    sockets.push(socket);
    let came = '';
    const events: string[] = [];
    socket.on('data', (part) => (came += part.toString()));
    for (const event of ['error', 'close', 'end']) socket.on(event, () => events.push(event));
    await once(socket, 'connect');
    socket.write('before.');
    await until('an echo', () => came === 'before.');
    await network.cut(network.outside, server);
    socket.write('during.');
    // The test checks for silence: nothing arrives for longer than an echo ever takes.
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect([came, events]).toEqual(['before.', []]);
    await network.heal(network.outside, server);
    await until('the rest of the echo', () => came === 'before.during.');
    expect(events).toEqual([]);
  });

  test('makes a new connection through a cut wait, and does not refuse it', async () => {
    const server = b as Host;
    await python(server, ECHO);
    await network.cut(network.outside, server);
    const events: string[] = [];
    const socket = connect(6000, server.address);
    sockets.push(socket);
    for (const event of ['error', 'close', 'connect']) socket.on(event, () => events.push(event));
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(events).toEqual([]);
    await network.heal(network.outside, server);
    await until('the connection', () => events.includes('connect'));
    expect(events).toEqual(['connect']);
  });
});

describe('namespaceNetwork()', () => {
  test('leaves nothing after end(), even with cut hosts', async () => {
    const network = await namespaceNetwork();
    const [a, b] = [await network.addHost('a'), await network.addHost('b')];
    await network.cut(a, b);
    const before = (await namespaceLeftovers()).filter(isOurs);
    // A bridge, and for each host a namespace and a network interface.
    expect(before.length).toBe(5);
    await network.end();
    expect((await namespaceLeftovers()).filter(isOurs)).toEqual([]);
  });

  test('removes what a dead process has left', async () => {
    const gone = spawn('true');
    await once(gone, 'exit');
    const name = `ktm-${(gone.pid ?? 0).toString(36)}-0`;
    spawnSync(toolPath('ip'), ['netns', 'add', name]);
    expect(await namespaceLeftovers()).toContain(name);
    const network = await namespaceNetwork();
    await network.end();
    expect(await namespaceLeftovers()).not.toContain(name);
  });
});

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  process.kill(child.pid ?? 0, 'SIGKILL');
  await ended;
}

function isOurs(name: string): boolean {
  return name.startsWith(`ktm-${process.pid.toString(36)}-`);
}
