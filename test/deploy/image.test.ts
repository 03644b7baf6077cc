// The Dockerfile, tested without Docker: the files that .dockerignore lets through suffice to build what the image
// runs, the command starts there through the image's link, and the health check distinguishes alive from dead.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';

const dockerfile = readFileSync(path.join(REPOSITORY, 'Dockerfile'), 'utf8');
const context = mkdtempSync(path.join(tmpdir(), 'katamari-image-'));
afterAll(() => rmSync(context, { recursive: true, force: true }));

/** The files that are sent to the builder. */
const sent = readFileSync(path.join(REPOSITORY, '.dockerignore'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('!'))
  .map((line) => line.slice(1));

describe('.dockerignore', () => {
  test('excludes everything except what it names, and that exists', () => {
    const lines = readFileSync(path.join(REPOSITORY, '.dockerignore'), 'utf8').split('\n');
    expect(lines.find((line) => line !== '' && !line.startsWith('#'))).toBe('*');
    expect(sent.filter((file) => !existsSync(path.join(REPOSITORY, file)))).toEqual([]);
    expect(sent.some((file) => /node_modules|dist|\.git|\.tools/.test(file))).toBe(false);
  });

  test('includes everything that the Dockerfile copies', () => {
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap(([, files = '']) =>
      files.split(' '),
    );
    expect(copied.length).toBeGreaterThan(8);
    expect(copied.filter((file) => !sent.includes(file))).toEqual([]);
    expect(sent.filter((file) => !copied.includes(file))).toEqual([]);
  });
});

describe('The image', () => {
  test('has a command that runs, built from those files alone', () => {
    for (const file of sent) cpSync(path.join(REPOSITORY, file), path.join(context, file), { recursive: true });
    symlinkSync(path.join(REPOSITORY, 'node_modules'), path.join(context, 'node_modules'));
    const run = (...args: string[]): { status: number | null; said: string } => {
      const { status, stdout, stderr } = spawnSync('node', args, { cwd: context, encoding: 'utf8' });
      return { status, said: stdout + stderr };
    };
    expect(run('scripts/build.mjs', '--examples')).toEqual({ status: 0, said: '' });
    symlinkSync('dist/services/cli/main.js', path.join(context, 'katamari'));
    expect(dockerfile).toContain('ln -s /app/dist/services/cli/main.js /usr/local/bin/katamari');
    const help = run('katamari', '--help');
    expect([help.status, help.said]).toEqual([0, expect.stringContaining('Usage: katamari')]);
    for (const role of ['master', 'manager', 'faceplate']) expect(help.said).toMatch(new RegExp(`^  ${role}\\b`, 'm'));
    const file = 'dist/examples/katamari.yaml';
    expect(run('katamari', 'config', 'deployments[0].service', '--config', file).said).toContain('Calculator');
  }, 120_000);

  test('runs as non-root under an init, and keeps its data in a volume', () => {
    const last = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '));
    expect(/^USER (.*)$/m.exec(last)?.[1]).toBe('node');
    expect(/^ENTRYPOINT (.*)$/m.exec(last)?.[1]).toBe('["tini", "--", "katamari"]');
    const dataDir = /^dataDir: (.*)$/m.exec(readFileSync(path.join(REPOSITORY, 'deploy/katamari.yaml'), 'utf8'))?.[1];
    expect(/^VOLUME (.*)$/m.exec(last)?.[1]).toBe(dataDir);
  });
});

describe('deploy/healthcheck.mjs', () => {
  async function check(port: number, ...args: string[]): Promise<{ code: number; said: string }> {
    const script = path.join(REPOSITORY, 'deploy/healthcheck.mjs');
    const env = { PATH: process.env['PATH'] ?? '', KATAMARI_PORTS_STATS: String(port) };
    const child = spawn('node', [script, ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    const [said, [code]] = await Promise.all([text(child.stdout), once(child, 'close')]);
    return { code: code as number, said: said.trim() };
  }

  test('passes when the process is alive, and fails when it is not ready or does not answer', async () => {
    const server = createServer((request, response) => {
      response.statusCode = request.url === '/livez' ? 200 : 503;
      response.end(request.url === '/livez' ? 'alive\n' : 'chassis are starting\n');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    expect(await check(port)).toEqual({ code: 0, said: 'alive' });
    expect(await check(port, 'livez')).toEqual({ code: 0, said: 'alive' });
    expect(await check(port, 'readyz')).toEqual({ code: 1, said: 'chassis are starting' });
    await new Promise((resolve) => server.close(resolve));
    const dead = await check(port, 'livez');
    expect([dead.code, dead.said]).toEqual([1, expect.stringContaining('ECONNREFUSED')]);
  });
});
