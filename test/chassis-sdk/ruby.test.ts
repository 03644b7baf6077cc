// The Ruby kit in a real mesh, with the Probe of its own tests. Then its own tests, `katamari conform`, and its gem.

import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTENT_CONFORMANCE, expectContentConformance } from '../kit/tools/content-exam.ts';
import { isAlive, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { runKatamari } from '../kit/tools/run.ts';
import { expectReplyInfo } from '../kit/tools/reply-info-exam.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';

const KIT = path.join(REPOSITORY, 'chassis-sdk', 'ruby');
const run = promisify(execFile);

let directory: string;
let mesh: TestMesh;
beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'katamari-ruby-'));
  await run(toolPath('thrift'), ['-r', '--gen', 'rb', '-o', directory, path.join(KIT, 'test', 'probe.thrift')]);
  const probe = (version: string, options: Readonly<Record<string, unknown>>, change: object = {}) => ({
    service: 'Probe',
    version,
    command: [...ruby(), path.join(KIT, 'test', 'probe.rb')],
    env: { PROBE_OPTIONS: JSON.stringify({ version, ...options }) },
    ...change,
  });
  const example = (service: string) => ({
    service,
    version: '1.0.0',
    command: [toolPath('ruby'), path.join(KIT, 'examples', `${service.toLowerCase()}_chassis.rb`)],
  });
  mesh = await startTestMesh(
    [
      probe('1.0.0', { tags: ['fast'], more: { region: 'north' } }, { count: 2 }),
      probe('2.0.0', { concurrency: 3 }),
      probe('3.0.0', { roles: ['test'] }),
      example('Calendar'),
      example('Invoices'),
    ],
    { timeout: '20s', routes: { Probe: { weights: { '1.0.0': 1 } } } },
  );
  await mesh.mesh.whenReady;
});
afterAll(async () => {
  await mesh.end();
  rmSync(directory, { recursive: true, force: true });
});

describe('A chassis in Ruby', () => {
  test('describes itself, and its interface with all its includes', async () => {
    const pools = mesh.mesh.status().pools.filter(({ service }) => service === 'Probe');
    expect(pools.map(({ version, alive, tags, roles }) => [version, alive, tags, roles])).toEqual(
      expect.arrayContaining([
        ['1.0.0', 2, ['fast'], []],
        ['2.0.0', 1, [], []],
        ['3.0.0', 1, [], ['test']],
      ]),
    );
    const idl = await (await fetch(`${mesh.mesh.addresses.jsonRpc}/idl/Probe.thrift`)).text();
    expect(idl).toContain('struct Everything');
  });

  test('accepts and returns values of every type', async () => {
    const value = {
      flag: true,
      tiny: -128,
      small: 32_767,
      normal: -2_147_483_648,
      big: '9223372036854775807',
      real: 0.1,
      text: 'Grüße 🌍',
      bytes: '//4A',
      level: 'HIGH',
      texts: ['', 'ß'],
      blobs: ['/w=='],
      numbers: [1, -1],
      keyed: { é: '/w==' },
      tree: { value: 1, children: [{ value: 2, children: [] }] },
      choice: { bytes: '/w==' },
      preset: 7,
    };
    expect((await mesh.call('Probe.echo', { value })).result).toEqual(value);
  });

  test('throws its declared exceptions; other exceptions are reported with their message, and it survives', async () => {
    const before = [...mesh.mesh.pids()].sort();
    expect((await mesh.call('Probe.declared', ['because'])).error).toMatchObject({
      code: -32_050,
      data: { exception: 'Refused', why: 'because', level: 'HIGH' },
    });
    const { error } = await mesh.call('Probe.undeclared', ['message']);
    expect(error?.message).toBe('Probe.undeclared failed: it is broken');
    expect((await mesh.call('Probe.wrong', ['nil'])).error?.message).toBe(
      'Probe.wrong failed: it returned nil, but the IDL declares a result',
    );
    expect([...mesh.mesh.pids()].sort()).toEqual(before);
    await until('its stack in the log', () => mesh.lines.some((line) => /Probe@1.0.0\/\d .*probe\.rb:\d+/.test(line)));
  });

  test('gives handlers the context of a call', async () => {
    const trace = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', tracestate: 'a=b' };
    const headers = { ...trace, 'katamari-key': 'k', 'katamari-timeout-ms': '5000' };
    const seen = (await mesh.call('Probe.context', [], headers)).result as Record<string, string>;
    expect(seen).toMatchObject({ method_name: 'context', key: 'k', attempt: '0', tracestate: 'a=b', thread: 'true' });
    expect(seen['caller']).toMatch(/^json-rpc /);
    expect(seen['traceparent']?.slice(0, 35)).toBe(trace.traceparent.slice(0, 35));
    expect(Number(seen['time_left'])).toBeGreaterThan(0);
    expect(Number(seen['time_left'])).toBeLessThanOrEqual(5);
  });

  test('gives handlers the headers of a client of the Ruby library', async () => {
    const client = `
      require 'thrift'
      require 'probe'
      transport = Thrift::HTTPClientTransport.new("http://127.0.0.1:#{ARGV[0]}/")
      transport.add_headers('x-colour' => 'blue')
      protocol = Thrift::MultiplexedProtocol.new(Thrift::BinaryProtocol.new(transport), 'Probe')
      print Probe::Probe::Client.new(protocol).context['header x-colour']
    `;
    const port = mesh.mesh.addresses.thrift.split(':').at(-1) ?? '';
    expect((await run(toolPath('ruby'), [...ruby().slice(1), '-e', client, port])).stdout).toBe('blue');
  });

  test('runs oneway calls, and the mesh knows when they end', async () => {
    const file = path.join(directory, 'notes');
    expect((await mesh.call('Probe.note', [file, 'one'])).error).toBe(undefined);
    await until('the note and the end of its call', () => {
      const { resources } = mesh.pool('Probe@1.0.0');
      return exists(file) && resources.every(({ state }) => state === 'idle');
    });
    expect(readFileSync(file, 'utf8')).toBe('one\n');
    await until('its log', () => mesh.lines.some((line) => /INFO -- Probe@1.0.0\/\d: noted one/.test(line)));
  });

  test('calls others within its deadline and under its trace', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const forward = async (service: string, what: string, timeoutMs = 2000) =>
      mesh.call('Probe.forward', [service, '1.0.0', what, timeoutMs], { traceparent });
    const seen = (await forward('Probe', 'context')).result as Record<string, string>;
    expect(seen['caller']).toMatch(/^chassis Probe@1.0.0\/\d$/);
    expect(seen['traceparent']?.slice(0, 35)).toBe(traceparent.slice(0, 35));
    expect(Number(seen['time_left'])).toBeLessThanOrEqual(2);
    expect((await forward('Probe', 'declared')).error?.data).toMatchObject({ exception: 'Refused', why: 'far away' });
    expect((await forward('Probe', 'undeclared')).result).toEqual({
      type: '6',
      message: 'Probe.undeclared failed: it is broken',
    });
    expect((await forward('Nobody', 'context')).result).toMatchObject({ code: 'no_pool' });
  });

  test('runs as many concurrent calls as it declares', async () => {
    const version = { 'katamari-version': '2.0.0' };
    const met = await Promise.all([1, 2, 3].map(() => mesh.call('Probe.meet', [3], version)));
    expect(met.map(({ result }) => result)).toEqual([3, 3, 3]);
    const { result } = await mesh.call('Probe.context', [], version);
    expect((result as Record<string, string>)['thread']).toBe('false');
  });

  test('is replaced after its reply on request of a handler, and no call is lost', async () => {
    const retired = mesh.call('Probe.retire');
    const others = Array.from({ length: 50 }, () => mesh.call('Probe.pid'));
    const { result: pid } = await retired;
    expect((await Promise.all(others)).map(({ error }) => error).filter((error) => error !== undefined)).toEqual([]);
    await until('another one', () => {
      const { alive, resources, restartsByReason } = mesh.pool('Probe@1.0.0');
      return alive === 2 && restartsByReason.retired === 1 && resources.every((one) => one.pid !== pid);
    });
    await until('its end', () => !isAlive(pid as number));
  });

  test('works as the samples show', async () => {
    expect((await mesh.call('Calendar.day', ['2026-03-31'])).result).toEqual({
      date: '2026-03-31',
      weekday: 'Tuesday',
      week: 14,
      isWorkday: true,
    });
    const due = await mesh.call('Invoices.due', [{ number: '1', written: '2026-03-31' }]);
    expect(due.result).toMatchObject({ date: '2026-04-14' });
    const none = await mesh.call('Invoices.due', [{ number: '1', written: '31 March' }]);
    expect(none.error?.data).toMatchObject({ exception: 'NoSuchDay', given: '31 March' });
  });

  test('ends by itself when its mesh ends', async () => {
    const other = await startTestMesh([
      {
        service: 'Calendar',
        version: '1.0.0',
        command: [toolPath('ruby'), path.join(KIT, 'examples', 'calendar_chassis.rb')],
      },
    ]);
    await other.mesh.whenReady;
    const [pid = 0] = other.mesh.pids();
    expect(isAlive(pid)).toBe(true);
    await other.end();
    expect(isAlive(pid)).toBe(false);
  });
});

describe('The kit for Ruby', () => {
  test('passes its own tests', async () => {
    const env = { ...process.env, PATH: `${path.dirname(toolPath('thrift'))}:${process.env['PATH']}` };
    const { stdout } = await run(toolPath('ruby'), ['-W0', '-Ilib', path.join('test', 'all.rb')], { cwd: KIT, env });
    expect(stdout).toMatch(/\d\d runs, \d+ assertions, 0 failures, 0 errors, 0 skips/);
  }, 180_000);

  test('conforms, with one concurrent call and with four', async () => {
    await run(toolPath('thrift'), ['--gen', 'rb', '-o', directory, path.join(REPOSITORY, 'idl', 'conformance.thrift')]);
    const program = path.join(REPOSITORY, 'test', 'fixtures', 'chassis', 'ruby', 'conformance.rb');
    const conform = (CONFORMANCE_CONCURRENCY: string) =>
      runKatamari(['conform', '--tcp', '--', ...ruby(), program], { env: { CONFORMANCE_CONCURRENCY } });
    for (const { code, stdout, stderr } of await Promise.all([conform('1'), conform('4')]))
      expect([code, /(\d+) checks, \1 ok\.\n$/.test(stdout) || stdout + stderr]).toEqual([0, true]);
  }, 120_000);

  test('tells handlers the facts about replies to their calls', async () => {
    await run(toolPath('thrift'), ['--gen', 'rb', '-o', directory, path.join(REPOSITORY, 'idl', 'conformance.thrift')]);
    await expectReplyInfo([...ruby(), path.join(REPOSITORY, 'test/fixtures/chassis/ruby/conformance.rb')]);
  }, 60_000);

  test('conforms as a content server, with one concurrent call and with three', async () => {
    await run(toolPath('thrift'), ['--gen', 'rb', '-o', directory, CONTENT_CONFORMANCE]);
    const program = path.join(REPOSITORY, 'test', 'fixtures', 'chassis', 'ruby', 'content_conformance.rb');
    for (const concurrency of ['1', '3']) await expectContentConformance([...ruby(), program], concurrency);
  }, 120_000);

  test('is built as a gem with all its files', async () => {
    const gem = path.join(directory, 'katamari.gem');
    await run(toolPath('gem'), ['build', 'katamari.gemspec', '--output', gem], { cwd: KIT });
    const into = path.join(directory, 'gems');
    await run(toolPath('gem'), [
      'install',
      '--local',
      '--ignore-dependencies',
      '--no-document',
      '--install-dir',
      into,
      gem,
    ]);
    const program =
      'gem "katamari"; require "katamari"; print Katamari::VERSION, " ", $LOADED_FEATURES.grep(/katamari/).first';
    const env = {
      ...process.env,
      GEM_PATH: `${into}:${(await run(toolPath('gem'), ['env', 'gempath'])).stdout.trim()}`,
    };
    const { stdout } = await run(toolPath('ruby'), ['-W0', '-e', program], { cwd: directory, env });
    expect(stdout).toMatch(/^0\.1\.0 .*\/gems\/katamari-0\.1\.0\/lib\//);
  });
});

/** Ruby with the kit and the generated code of the Probe on its load path. */
function ruby(): string[] {
  return [toolPath('ruby'), '-W0', '-I', path.join(KIT, 'lib'), '-I', path.join(directory, 'gen-rb')];
}

function exists(file: string): boolean {
  try {
    return readFileSync(file).length > 0;
  } catch {
    return false;
  }
}
