// Errors that nothing handles, in a real process: an added faceplate, as a user may write it, throws in a timer, in a
// promise and in a socket. The mesh names and counts them and serves on. Where a part of the mesh itself ends, the
// process drains and exits with a status that makes a supervisor start it again.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { work } from '../kit/mesh/mesh.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { until } from '../kit/tools/wait.ts';

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

let folder: string;
let mesh: MeshProcess | undefined;
beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), 'katamari-defects-'))));
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
  rmSync(folder, { recursive: true, force: true });
});

/** A faceplate that runs a line of code for each line that a client sends. */
const FACEPLATE = `import { createServer } from 'node:net';
export default {
  async start({ host, port }) {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (data) => {
        const what = String(data).trim();
        socket.end('done\\n');
        if (what === 'timer') setTimeout(() => { throw new TypeError('in a timer'); }, 1);
        if (what === 'promise') void Promise.reject(new RangeError('in a promise'));
        if (what === 'text') setTimeout(() => { throw 'only a text'; }, 1);
        if (what === 'socket') throw new SyntaxError('in a socket');
        if (what === 'election') breakElection();
      });
    });
    await new Promise((resolve) => server.listen({ host, port }, resolve));
    return {
      address: \`\${host}:\${server.address().port}\`,
      connections: () => 0,
      drain: async () => void server.close(),
      close: async () => void server.close(),
    };
  },
};

/** The election throws in its next step, which is due within its tick of 200 ms. */
function breakElection() {
  const { findIndex } = Array.prototype;
  Array.prototype.findIndex = function (...args) {
    if (/election\\.[jt]s/.test(new Error().stack)) throw new TypeError('the election is broken');
    return findIndex.apply(this, args);
  };
}
`;

async function start(): Promise<(what: string) => Promise<void>> {
  writeFileSync(path.join(folder, 'faulty.mjs'), FACEPLATE);
  mesh = await startMeshProcess({
    directory: folder,
    deployments: [work()],
    settings: { faceplates: [{ module: './faulty.mjs', name: 'faulty', port: 0 }] },
  });
  const { listeners } = await mesh.status();
  const port = Number(
    listeners
      .find(({ name }) => name === 'faulty')
      ?.address.split(':')
      .at(-1),
  );
  return (what) =>
    new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(`${what}\n`));
      socket.on('error', reject);
      socket.on('data', () => undefined);
      socket.on('close', () => resolve());
    });
}

async function defects(up: MeshProcess): Promise<Record<string, number>> {
  const text = await (await fetch(`${up.addresses.stats}/metrics`)).text();
  const samples = [...text.matchAll(/^katamari_defects_total\{name="([^"]*)"\} (\d+)$/gm)];
  return Object.fromEntries(samples.map(([, name = '', count]) => [name.replace(/:\d+$/, ''), Number(count)]));
}

describe('An error that nothing handles', () => {
  test('is named, counted and reported, and the mesh serves on', async () => {
    const cause = await start();
    const up = mesh as MeshProcess;
    for (const what of ['timer', 'promise', 'socket', 'text']) await cause(what);
    for (let again = 0; again < 4; again++) await cause('timer');
    const names = {
      'TypeError at faulty.mjs': 5,
      'RangeError at faulty.mjs': 1,
      'SyntaxError at faulty.mjs': 1,
      'thrown string': 1,
    };
    await until(
      'all to be counted',
      async () => JSON.stringify(sorted(await defects(up))) === JSON.stringify(sorted(names)),
    );
    const reports = up.output().match(/"kind":"defect"/g) ?? [];
    // One for each name: the repetitions are counted and reported later.
    expect(reports.length).toBe(4);
    for (const text of [
      ' TypeError: in a timer',
      ' RangeError: in a promise',
      ' SyntaxError: in a socket',
      ': only a text',
    ])
      expect(up.output()).toContain(`uncaught${text}`);
    expect(up.output()).toContain('this process goes on');
    expect((await up.call('Work.say', { text: 'still here' })).result).toBe('still here');
    expect(await up.stop()).toBe(0);
  });

  test('ends the process with a drain and status 70 when a part of the mesh has failed', async () => {
    const cause = await start();
    const up = mesh as MeshProcess;
    const slow = up.call('Work.take', { ms: 1_000 });
    await until('the call to run', () => up.ledger().length === 1);
    await cause('election');
    const code = await until('the exit', () => up.exitCode());
    expect(up.output()).toContain('the election has failed: the election is broken; this process drains and exits');
    expect((await slow).error).toBe(undefined);
    expect(code).toBe(70);
    expect(up.descendants()).toEqual([]);
  });
});

function sorted(counts: Readonly<Record<string, number>>): [string, number][] {
  return Object.entries(counts).sort();
}
