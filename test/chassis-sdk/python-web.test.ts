// A WSGI application behind the web faceplate: the web sample of the Python kit with its katamari.yaml and generated
// code.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { rawClient } from '../kit/wire/raw-http.ts';
import { startTestMesh, type DeploymentText } from '../kit/mesh/mesh.ts';
import { generate } from '../kit/wire/thrift-client.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';

const KIT = path.join(REPOSITORY, 'chassis-sdk', 'python');
const SAMPLE = path.join(KIT, 'examples', 'web');

test('A WSGI application answers requests, and its environment is complete', async () => {
  const generated = await generate(path.join(SAMPLE, 'notes.thrift'));
  const text = parse(readFileSync(path.join(SAMPLE, 'katamari.yaml'), 'utf8')) as {
    deployments: (DeploymentText & { command: string[] })[];
    web: { sites: unknown };
  };
  const PYTHONPATH = [path.join(generated.directory, 'gen-py'), KIT].join(path.delimiter);
  const mesh = await startTestMesh(
    text.deployments.map((one) => ({
      ...one,
      // The Python that has the library, wherever another one comes first on PATH.
      command: ['/usr/bin/python3', ...one.command.slice(1)],
      cwd: SAMPLE,
      env: { PYTHONPATH, PYTHONDONTWRITEBYTECODE: '1' },
    })),
    { web: { port: 0, ...text.web } },
  );
  try {
    await mesh.mesh.whenReady;
    const url = `${mesh.mesh.addresses.web}/notes`;
    const posted = await fetch(`${url}/to%20do?a=1&b`, { method: 'POST', body: 'Milch für Käthe' });
    expect([posted.status, posted.headers.get('content-type')]).toEqual([200, 'application/json; charset=utf-8']);
    expect(await posted.json()).toEqual({ notes: ['Milch für Käthe'], path: '/to do', root: '/notes', query: 'a=1&b' });
    const port = Number(new URL(url).port);
    const raw = await rawClient(
      port,
      'GET /notes HTTP/1.1\r\nHost: [::1]:80\r\nCookie: a\r\nCookie: b\r\nConnection: close\r\n\r\n',
    );
    expect(await raw.closed()).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*"path": "", "root": "\/notes", "query": ""\}$/);
    // The name of a note comes and goes in a header, as WSGI has it.
    const named = await rawClient(
      port,
      Buffer.from('GET /notes HTTP/1.1\r\nHost: localhost\r\nX-Name: Käthe 🧀\r\nConnection: close\r\n\r\n'),
    );
    expect(Buffer.from(await named.closed(), 'latin1').toString()).toMatch(/x-name: Käthe 🧀\r\n/i);
    const failed = await fetch(url, { method: 'POST', body: new Uint8Array([255]) });
    expect([failed.status, await failed.text()]).toEqual([
      500,
      'The application failed on this request; its log says why.\n',
    ]);
    expect(mesh.lines.some((line) => line.includes('UnicodeDecodeError'))).toBe(true);
  } finally {
    await mesh.end();
    generated.remove();
  }
});
