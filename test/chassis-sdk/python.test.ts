// The Python kit in a real mesh: its scripted fixture, and its samples as a user runs them. The kit's own unit tests
// also run from here.

import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { CONTENT_CONFORMANCE, expectContentConformance } from '../kit/tools/content-exam.ts';
import { isAlive, startTestMesh, type DeploymentText, type TestMesh } from '../kit/mesh/mesh.ts';
import { runKatamari } from '../kit/tools/run.ts';
import { expectReplyInfo } from '../kit/tools/reply-info-exam.ts';
import { generate, python, type Generated } from '../kit/wire/thrift-client.ts';
import { runtimeName } from '../../core/mod.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';

const KIT = path.join(REPOSITORY, 'chassis-sdk', 'python');
const FIXTURE = path.join(KIT, 'tests', 'does_as_told.py');
const run = promisify(execFile);

let generated: Generated;
let env: Readonly<Record<string, string>>;
beforeAll(async () => {
  generated = await generate(path.join(REPOSITORY, 'idl', 'conformance.thrift'));
  await run(toolPath('thrift'), ['--gen', 'py', '-o', generated.directory, CONTENT_CONFORMANCE]);
  const found = [path.join(generated.directory, 'gen-py'), KIT].join(path.delimiter);
  env = { PYTHONPATH: found, PYTHONDONTWRITEBYTECODE: '1' };
});
afterAll(() => generated.remove());

/** The fixture as a deployment. */
function conformance(version: string, more: Readonly<Record<string, string>> = {}): DeploymentText {
  return {
    service: 'Conformance',
    version,
    command: ['/usr/bin/python3', FIXTURE],
    env: { ...env, CONFORMANCE_VERSION: version, ...more },
    pingEvery: '50ms',
    hangGrace: '1500ms',
  };
}

describe('A chassis with the Python kit', () => {
  let mesh: TestMesh;
  beforeAll(async () => {
    mesh = await startTestMesh(
      [
        conformance('1.0.0', { RELAY_VERSION: '2.0.0' }),
        conformance('2.0.0', { CONFORMANCE_CONCURRENCY: '2' }),
        conformance('3.0.0', { RELAY_VERSION: '3.0.0' }),
      ],
      { timeout: '10s' },
    );
    await mesh.mesh.whenReady;
  });
  afterAll(() => mesh.end());

  const pidOf = (version: string): number => mesh.pool(`Conformance@${version}`).resources[0]?.pid ?? 0;

  test('describes itself, and returns values unchanged', async () => {
    expect(mesh.pool('Conformance@1.0.0')).toMatchObject({ alive: 1, tags: ['python'] });
    const value = {
      flag: true,
      tiny: -128,
      small: 2,
      whole: 3,
      large: '9007199254740993',
      real: 0.5,
      text: 'käse',
      bytes: 'AP8=',
      colour: 'INFRARED',
      leaf: { text: 'leaf', number: 7 },
      either: { leaf: { text: 'either', number: 1 } },
      numbers: [1, 2],
      words: ['a'],
      counts: { a: 1 },
      nested: { 1: [{ text: 'x', number: 2 }] },
      given: 'told',
      blobs: ['', 'eA=='],
    };
    const { result, error } = await mesh.call('Conformance@1.0.0.echo', { value });
    expect(error).toBe(undefined);
    expect(result).toEqual(value);
  });

  test('returns declared exceptions with their fields, others with their message and no stack', async () => {
    const refused = await mesh.call('Conformance@1.0.0.refuse', { why: 'no', number: 3 });
    expect(refused.error).toMatchObject({ code: -32_050, data: { exception: 'Declared', why: 'no', number: 3 } });
    const pid = pidOf('1.0.0');
    const failed = await mesh.call('Conformance@1.0.0.collapse', { why: 'boom' });
    expect(failed.error?.message).toBe('Conformance.collapse failed: boom');
    await until('the stack in the log', () => mesh.lines.some((line) => line.includes('RuntimeError: boom')));
    expect(mesh.lines.some((line) => /ERROR Conformance@1\.0\.0\/\d katamari: /.test(line))).toBe(true);
    expect(pidOf('1.0.0')).toBe(pid);
  });

  test('gives handlers the deadline, the trace, the key and the headers of a call', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const { result } = await mesh.call('Conformance@1.0.0.report', undefined, {
      traceparent,
      tracestate: 'vendor=7',
      'katamari-key': 'customer 7',
      'katamari-timeout-ms': '5000',
    });
    const report = result as Readonly<Record<string, unknown>>;
    expect(report).toMatchObject({ traceparent, tracestate: 'vendor=7', key: 'customer 7', attempt: 0 });
    expect(report['timeLeftMs']).toBeGreaterThan(0);
    expect(report['timeLeftMs']).toBeLessThanOrEqual(5000);
    expect(report['caller']).toContain('json-rpc');
    const client = `
import sys
from thrift.transport.THttpClient import THttpClient
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from conformance import Conformance
http = THttpClient(sys.argv[1])
http.setCustomHeaders({'X-Shop': '7', 'katamari-version': '1.0.0'})
print(Conformance.Client(TBinaryProtocol(http)).report().headers)
`;
    const url = `http://${mesh.mesh.addresses.thrift.replace(/^\w+:\/\//, '')}/`;
    expect(await python(generated, client, url)).toContain("'x-shop': '7'");
  });

  test('calls others through the mesh, and times out a call that waits for its own pool', async () => {
    expect((await mesh.call('Conformance@1.0.0.relay', { value: 'over there' })).result).toBe('over there');
    const pid = pidOf('3.0.0');
    const late = await mesh.call('Conformance@3.0.0.relay', { value: 'x' }, { 'katamari-timeout-ms': '300' });
    expect(late.error?.data).toMatchObject({ code: 'timeout' });
    const resource = (): string | undefined => mesh.pool('Conformance@3.0.0').resources[0]?.state;
    await until('its handler to give up', () => resource() === 'idle');
    expect(pidOf('3.0.0')).toBe(pid);
  });

  test('gets one call at a time, or as many as it declares', async () => {
    const both = [1, 2].map(() => mesh.call('Conformance@2.0.0.work', { ms: 1000 }));
    const inFlight = (): number => mesh.pool('Conformance@2.0.0').resources[0]?.inFlight ?? 0;
    await until('both to be at work', () => inFlight() === 2);
    expect((await Promise.all(both)).map(({ result }) => result)).toEqual([1000, 1000]);
  });

  test('reports the end of its oneway calls', async () => {
    for (const line of ['first', 'second'])
      expect((await mesh.call('Conformance@1.0.0.note', { line })).error).toBe(undefined);
    expect((await mesh.call('Conformance@1.0.0.noted')).result).toEqual(['first', 'second']);
    expect(mesh.pool('Conformance@1.0.0').resources[0]?.inFlight).toBe(0);
  });

  test('is replaced on request of a handler after the reply, and when it is killed', async () => {
    const first = pidOf('1.0.0');
    expect((await mesh.call('Conformance@1.0.0.retire')).error).toBe(undefined);
    await until('it to end', () => !isAlive(first));
    await until('another', () => mesh.pool('Conformance@1.0.0').alive === 1);
    const second = pidOf('1.0.0');
    process.kill(second, 'SIGKILL');
    expect((await mesh.call('Conformance@1.0.0.echoText', { value: 'x' })).result).toBe('x');
    expect([first, second]).not.toContain(pidOf('1.0.0'));
    expect(mesh.pool('Conformance@1.0.0').restartsByReason).toEqual({ retired: 1, crashed: 1 });
  });

  test('answers pings, and is killed when it hangs', async () => {
    const pid = pidOf('3.0.0');
    const hung = await mesh.call('Conformance@3.0.0.work', { ms: 60_000 }, { 'katamari-timeout-ms': '200' });
    expect(hung.error?.data).toMatchObject({ code: 'timeout', stage: 'service' });
    await until('it to be killed', () => !isAlive(pid));
    await until('another', () => {
      const { alive, restartsByReason } = mesh.pool('Conformance@3.0.0');
      return alive === 1 && restartsByReason.hung === 1;
    });
    expect((await mesh.call('Conformance@3.0.0.echoText', { value: 'x' })).result).toBe('x');
  });
});

describe('The samples of the Python kit', () => {
  test('run with their katamari.yaml, once the compiler has generated their code', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'katamari-python-'));
    cpSync(KIT, folder, { recursive: true });
    const examples = path.join(folder, 'examples');
    for (const idl of ['review.thrift', 'grep.thrift'])
      await run(toolPath('thrift'), ['-r', '--gen', 'py', idl], { cwd: examples });
    const text = parse(readFileSync(path.join(examples, 'katamari.yaml'), 'utf8')) as {
      deployments: (DeploymentText & { env: Readonly<Record<string, string>> })[];
    };
    // The Python that has the library comes first; the rest is unchanged.
    const PATH = ['/usr/bin', process.env['PATH']].join(path.delimiter);
    const mesh = await startTestMesh(
      text.deployments.map((one) => ({ ...one, cwd: examples, env: { ...one.env, PATH } })),
      { timeout: '10s' },
    );
    try {
      await mesh.mesh.whenReady;
      const before = { name: 'a', content: 'one\ntwo\n' };
      const { result } = await mesh.call('Review.review', { before, after: { name: 'b', content: 'one\nthree\n' } });
      expect(result).toEqual({
        changes: '--- a\n+++ b\n@@ -1,2 +1,2 @@\n one\n-two\n+three',
        added: 1,
        removed: 1,
        words: 'looks harmless',
      });
      const same = await mesh.call('Review.review', { before, after: before });
      expect(same.error?.data).toEqual({ exception: 'NothingChanged', name: 'a' });
      const closest = await mesh.call('Differ.closest', { word: 'hte', among: ['the', 'hat'] });
      expect(closest.result).toBe('the');
      // Its mesh has no index: the content server waits for one.
      expect((await mesh.call('Grep.grep', { pattern: 'x' })).result).toEqual([]);
      const other = await mesh.call('Grep.grep', { shards: ['wiki@1.0.0/a'], pattern: 'x' });
      expect(other.error).toMatchObject({
        code: -32_001,
        message: 'Shard wiki@1.0.0/a is not open here; open are none',
        data: { code: 'no_pool' },
      });
      await mesh.call('Review.remark', { words: 'well done' });
      await until('the remark in the log', () =>
        mesh.lines.some((line) => /INFO Review@1\.0\.0\/\d review: json-rpc \S+ says: well done/.test(line)),
      );
    } finally {
      await mesh.end();
      rmSync(folder, { recursive: true });
    }
  });
});

describe('The Python kit', () => {
  test('conforms', async () => {
    const { code, stdout } = await runKatamari(['conform', '--json', '--', '/usr/bin/python3', FIXTURE], { env });
    const { checks } = JSON.parse(stdout) as { checks: { id: string; verdict: string }[] };
    expect(checks.length).toBeGreaterThan(40);
    expect(checks.filter(({ verdict }) => verdict !== 'ok')).toEqual([]);
    expect(code).toBe(0);
  }, 120_000);

  test('tells handlers the facts about replies to their calls', async () => {
    await expectReplyInfo(['/usr/bin/python3', FIXTURE], env);
  }, 60_000);

  test('conforms as a content server, with one concurrent call and with three', async () => {
    const fixture = path.join(KIT, 'tests', 'holds_shards.py');
    for (const concurrency of ['1', '3'])
      await expectContentConformance(['/usr/bin/python3', fixture], concurrency, env);
  }, 120_000);

  // They do not depend on the runtime that starts them, so one run is enough.
  if (runtimeName() === 'node') {
    test('passes its unit tests', async () => {
      const args = ['-W', 'ignore::ResourceWarning', '-m', 'unittest', 'discover', '-s', 'tests', '-t', '.'];
      const { stderr } = await run('/usr/bin/python3', args, {
        cwd: KIT,
        env: { ...process.env, THRIFT: toolPath('thrift'), PYTHONDONTWRITEBYTECODE: '1' },
        timeout: 110_000,
      });
      expect(stderr).toMatch(/Ran [5-9]\d tests in [\s\S]*\nOK\n/);
    }, 120_000);
  }
});
