import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { memoryLimits } from '../../../services/config/memory.ts';
import {
  ExitError,
  type FlagValue,
  httpAccessOf,
  loadConfig,
  type LoadedConfig,
} from '../../../services/config/mod.ts';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'katamari-config-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function load(
  text: string,
  env: Record<string, string> = {},
  flags: FlagValue[] = [],
  name = 'katamari.yaml',
): LoadedConfig {
  writeFileSync(path.join(directory, name), text);
  return loadConfig({ file: name, cwd: directory, env: { HOME: directory, ...env }, flags });
}

function problems(text: string, env: Record<string, string> = {}, flags: FlagValue[] = []): string[] {
  try {
    load(text, env, flags);
  } catch (error) {
    expect(error).toBeInstanceOf(ExitError);
    expect((error as ExitError).exitCode).toBe(78);
    return (error as ExitError).message.split('\n');
  }
  return [];
}

function from(loaded: LoadedConfig, key: string): [value: string, from: string] | undefined {
  const found = loaded.settings.find((setting) => setting.key === key);
  return found === undefined ? undefined : [found.value, found.from];
}

const CALCULATOR = 'deployments:\n  - service: Calculator\n    version: 1.0.0\n    command: [calc]\n';

describe('loadConfig()', () => {
  test('needs no file: everything has a default', () => {
    const { config, file } = loadConfig({ file: undefined, cwd: directory, env: { HOME: '/home/x' }, flags: [] });
    expect(file).toBe(undefined);
    expect(config.mesh).toBe('default');
    expect(config.host).toBe('127.0.0.1');
    expect(config.ports).toEqual({ thrift: 9090, jsonRpc: 9080, stats: 9081, link: 9070, consul: 9085 });
    expect(config.timeoutMs).toBe(10_000);
    const { processBytesMax, callerBytesMax, connectionBytesMax, ...limits } = config.limits;
    expect(processBytesMax).toBeGreaterThanOrEqual(64 * 1024 * 1024);
    expect(processBytesMax).toBeLessThanOrEqual(1024 * 1024 * 1024);
    expect(callerBytesMax).toBe(processBytesMax / 2);
    expect(connectionBytesMax).toBe(Math.max(processBytesMax / 8, 32 * 1024 * 1024));
    expect(limits).toEqual({
      frameBytesMax: 16 * 1024 * 1024,
      nestingMax: 64,
      batchMax: 100,
      connectionsMax: 20_000,
      idleMs: 600_000,
      requestMs: 30_000,
      pipelineMax: 256,
      headersMax: 100,
    });
    expect(config.dataDir).toBe('/home/x/.local/state/katamari/default');
    expect(config.admin).toEqual({ token: '', tokenFile: '/home/x/.local/state/katamari/default/admin-token' });
    expect(config.consul.embedded).toBe(true);
    expect(config.deployments).toEqual([]);
  });

  test('fills a deployment with its defaults and makes its paths absolute from the file', () => {
    const { config } = load(
      `${CALCULATOR}    idl: idl/calculator.thrift\n    includes: [idl, /opt/idl]\n    cwd: work\n`,
    );
    expect(config.deployments[0]).toEqual({
      id: 'Calculator@1.0.0',
      service: 'Calculator',
      version: '1.0.0',
      command: ['calc'],
      count: 1,
      perManager: false,
      cwd: path.join(directory, 'work'),
      env: {},
      tags: [],
      roles: [],
      more: {},
      idl: path.join(directory, 'idl/calculator.thrift'),
      includes: [path.join(directory, 'idl'), '/opt/idl'],
      kit: 'sdk',
      listen: 'unix',
      transport: 'framed',
      protocol: 'binary',
      healthCheck: '',
      concurrency: undefined,
      startTimeoutMs: 10_000,
      pingEveryMs: 5_000,
      pingTimeoutMs: 2_000,
      drainTimeoutMs: 10_000,
      stopGraceMs: 2_000,
      hangGraceMs: 1_000,
      restart: { intensity: 5, periodMs: 30_000, backoffFirstMs: 500, backoffMaxMs: 30_000 },
      recycle: { afterCalls: 0, afterAgeMs: 0, memoryMaxBytes: 0 },
      queueMax: 256,
      isolation: null,
    });
  });

  test('runs a script on the runtime of the mesh itself', () => {
    const { config } = load('deployments:\n  - {service: A, version: "1", script: sub/a.js}\n');
    expect(config.deployments[0]?.command[0]).toBe(process.execPath);
    expect(config.deployments[0]?.command.at(-1)).toBe(path.join(directory, 'sub/a.js'));
  });

  test('connects to a plain Thrift server by TCP by default', () => {
    expect(load(`${CALCULATOR}    kit: none\n    idl: c.thrift\n`).config.deployments[0]?.listen).toBe('tcp');
    expect(
      load(`${CALCULATOR}    kit: none\n    idl: c.thrift\n    listen: unix\n`).config.deployments[0]?.listen,
    ).toBe('unix');
  });

  test('expects framed binary from a plain Thrift server by default', () => {
    const plain = `${CALCULATOR}    kit: none\n    idl: c.thrift\n`;
    expect(load(plain).config.deployments[0]).toMatchObject({
      transport: 'framed',
      protocol: 'binary',
      healthCheck: '',
    });
    const told = load(`${plain}    transport: header\n    protocol: compact\n    healthCheck: ready\n`);
    expect(told.config.deployments[0]).toMatchObject({
      transport: 'header',
      protocol: 'compact',
      healthCheck: 'ready',
    });
  });

  test('reads durations and sizes with their units', () => {
    const { config } = load('timeout: 1m30s\nlimits: { frame: 512KB, idle: 250ms, request: 2m }\n');
    expect(config.timeoutMs).toBe(90_000);
    expect(config.limits.frameBytesMax).toBe(512_000);
    expect(config.limits.idleMs).toBe(250);
    expect(config.limits.requestMs).toBe(120_000);
  });

  test('takes the sums of bytes from the memory of the machine, unless they are set', () => {
    const mib = 1024 * 1024;
    const found = (bytes: number): unknown => memoryLimits({}, 16 * mib, bytes);
    expect(found(64 * 1024 * mib)).toEqual({
      memory: 1024 * mib,
      callerMemory: 512 * mib,
      connectionMemory: 128 * mib,
    });
    expect(found(1024 * mib)).toEqual({ memory: 256 * mib, callerMemory: 128 * mib, connectionMemory: 32 * mib });
    expect(found(128 * mib)).toEqual({ memory: 64 * mib, callerMemory: 32 * mib, connectionMemory: 32 * mib });
    const { config } = load('limits: { memory: 200MiB, callerMemory: 150MiB, connectionMemory: 2MiB }\n');
    expect(config.limits).toMatchObject({
      processBytesMax: 200 * mib,
      callerBytesMax: 150 * mib,
      connectionBytesMax: 2 * mib,
    });
    expect(() => load('limits: { memory: 1KiB }\n')).toThrow(
      'limits.memory: found "1KiB", expected a size of at least 1MiB',
    );
  });

  test('reads JSON as well, and finds the file by its usual names', () => {
    const sub = path.join(directory, 'json');
    mkdirSync(sub);
    writeFileSync(path.join(sub, 'katamari.json'), '{\n\t"mesh": "lab",\n\t"tmeout": "1s"\n}');
    expect(() => loadConfig({ file: undefined, cwd: sub, env: {}, flags: [] })).toThrow(
      'katamari.json:3: tmeout: unknown key, did you mean "timeout"?',
    );
  });

  test('shares entries by anchors, under x- keys', () => {
    const { config } = load(
      'x-base: &base { count: 3, tags: [a] }\ndeployments:\n  - { <<: *base, service: A, version: "1", command: [a] }\n',
    );
    expect(config.deployments[0]?.count).toBe(3);
    expect(config.deployments[0]?.tags).toEqual(['a']);
  });
});

describe('Precedence', () => {
  const file = 'host: 10.0.0.1\ntimeout: 1s\nports:\n  thrift: 1001\n  stats: 1003\n';
  const env = {
    KATAMARI_HOST: '10.0.0.2',
    KATAMARI_PORTS_THRIFT: '1002',
    KATAMARI_JSON_RPC_ALLOWED_ORIGINS: 'https://a.example, https://b.example',
  };

  test('a flag takes precedence over a variable, the file and the default, in this order, and each value names its source', () => {
    const loaded = load(file, env, [{ flag: '--host', key: 'host', value: '10.0.0.3' }]);
    expect(from(loaded, 'host')).toEqual(['10.0.0.3', 'flag --host']);
    expect(from(loaded, 'ports.thrift')).toEqual(['1002', 'env KATAMARI_PORTS_THRIFT']);
    expect(from(loaded, 'ports.stats')).toEqual(['1003', 'katamari.yaml:5']);
    expect(from(loaded, 'timeout')).toEqual(['1s', 'katamari.yaml:2']);
    expect(from(loaded, 'ports.link')).toEqual(['9070', 'default']);
    expect(from(loaded, 'limits.frame')).toEqual(['16MiB', 'default']);
    expect(loaded.config.jsonRpc.allowedOrigins).toEqual(['https://a.example', 'https://b.example']);
    expect(loaded.config.host).toBe('10.0.0.3');
  });

  test('http.hosts and http.origins are checked, shown with their source, and joined with the names of the process', () => {
    const loaded = load('advertise: worker-1\nhttp:\n  hosts: ["*.mesh.example"]\n', {
      KATAMARI_HTTP_ORIGINS: 'https://a.example,*',
    });
    expect(from(loaded, 'http.hosts')).toEqual(['["*.mesh.example"]', 'katamari.yaml:3']);
    expect(from(loaded, 'http.origins')).toEqual(['["https://a.example","*"]', 'env KATAMARI_HTTP_ORIGINS']);
    expect(httpAccessOf(loaded.config)).toEqual({
      hosts: ['*.mesh.example', '127.0.0.1', 'worker-1'],
      origins: ['https://a.example', '*'],
    });
    expect(httpAccessOf(load('consul: { embedded: false }').config).hosts).toEqual(['127.0.0.1', '*.consul']);
    for (const host of ['a:80', 'http://a', 'a b', 'a*.example', '*a', '']) {
      expect(problems(`http: { hosts: [${JSON.stringify(host)}] }\n`)).toEqual([
        `katamari.yaml:1: http.hosts[0]: found ${JSON.stringify(host)}, expected a host name without a port such as "mesh.example.org", "*.example.org", or "*"`,
      ]);
    }
    expect(problems('http: { origins: [app.example] }\n')).toEqual([
      'katamari.yaml:1: http.origins[0]: found "app.example", expected an origin such as "https://example.org", or "*"',
    ]);
  });

  test('content.sources are URL prefixes, by default the folder of the file, or the working directory', () => {
    const { config } = loadConfig({ file: undefined, cwd: '/srv/mesh one', env: { HOME: '/home/x' }, flags: [] });
    expect(config.content).toEqual({
      directory: '/home/x/.local/state/katamari/default/shards',
      sources: ['file:///srv/mesh%20one/'],
      fetchBytesPerS: 50_000_000,
      verifyEveryMs: 86_400_000,
      openTimeoutMs: 300_000,
    });
    expect(load(CALCULATOR).config.content.sources).toEqual([`file://${directory}/`]);
    const text = `content: { directory: ./shards, sources: [s3://bucket/], fetchRate: 0, verifyEvery: off, openTimeout: 1m }\n${CALCULATOR}`;
    expect(load(text).config.content).toEqual({
      directory: path.join(directory, 'shards'),
      sources: ['s3://bucket/'],
      fetchBytesPerS: 0,
      verifyEveryMs: 0,
      openTimeoutMs: 60_000,
    });
    const loaded = load(text, { KATAMARI_CONTENT_SOURCES: 'file:/srv/a/,https://host/b/' });
    expect(loaded.config.content.sources).toEqual(['file:/srv/a/', 'https://host/b/']);
    expect(from(loaded, 'content.sources')).toEqual([
      '["file:/srv/a/","https://host/b/"]',
      'env KATAMARI_CONTENT_SOURCES',
    ]);
    for (const wrong of [
      'indices/',
      'file:indices/',
      'https://user:secret@host/',
      's3://',
      'https://host/?x=1',
      'ftp://x/',
    ])
      expect(problems(`content: { sources: ["${wrong}"] }\n${CALCULATOR}`).join()).toContain(
        'expected a URL prefix such as "file:/srv/indices/"',
      );
  });

  test('an empty variable counts as not set', () => {
    expect(from(load(file, { KATAMARI_HOST: '' }), 'host')).toEqual(['10.0.0.1', 'katamari.yaml:1']);
  });

  test('paths are relative to the file when they are in it, and to the working directory in a flag or a variable', () => {
    const sub = path.join(directory, 'sub');
    mkdirSync(sub, { recursive: true });
    writeFileSync(path.join(sub, 'k.yaml'), 'dataDir: data\n');
    const sources = { file: 'sub/k.yaml', cwd: directory, env: {} };
    expect(loadConfig({ ...sources, flags: [] }).config.dataDir).toBe(path.join(sub, 'data'));
    expect(
      loadConfig({ ...sources, flags: [{ flag: '--data-dir', key: 'dataDir', value: 'data' }] }).config.dataDir,
    ).toBe(path.join(directory, 'data'));
  });

  test('secrets are hidden', () => {
    const loaded = load('admin: { token: abcdefghijklmnopqrst }\n');
    expect(loaded.config.admin.token).toBe('abcdefghijklmnopqrst');
    expect(from(loaded, 'admin.token')).toEqual(['********', 'katamari.yaml:1']);
  });

  test('Consul variables apply only to a mesh that uses a real Consul', () => {
    const consulEnv = { CONSUL_HTTP_ADDR: 'consul.example:8501', CONSUL_HTTP_SSL: 'true', CONSUL_HTTP_TOKEN: 'secret' };
    const embedded = load('', consulEnv);
    expect(embedded.config.consul).toEqual({
      embedded: true,
      address: '',
      token: '',
      tokenFile: path.join(embedded.config.dataDir, 'consul-token'),
      caFile: '',
      certFile: '',
      keyFile: '',
    });
    expect(embedded.warnings).toEqual([
      'CONSUL_HTTP_ADDR is set, but this mesh embeds its Consul; to use that Consul, set consul.embedded: false',
    ]);
    const real = load('consul: { embedded: false }', consulEnv);
    expect(real.config.consul.address).toBe('https://consul.example:8501');
    expect(real.config.consul.token).toBe('secret');
    expect(load('consul: { embedded: false }').config.consul.address).toBe('http://127.0.0.1:8500');
    expect(load('consul: { address: "10.0.0.1:8500" }').config.consul).toMatchObject({
      embedded: false,
      address: 'http://10.0.0.1:8500',
    });
  });

  test('an unknown variable is reported with a suggestion', () => {
    expect(load('', { KATAMARI_TIMEUOT: '1s', KATAMARI_LISTEN: 'unix:/x' }).warnings).toEqual([
      'KATAMARI_TIMEUOT is not a setting, did you mean "KATAMARI_TIMEOUT"?',
    ]);
  });
});

describe('Configuration errors', () => {
  const cases: readonly [name: string, text: string, ...expected: string[]][] = [
    [
      'a misspelt key',
      `${CALCULATOR}    cuont: 3\n`,
      'katamari.yaml:5: deployments[0].cuont: unknown key, did you mean "count"?',
    ],
    [
      'an unknown key among few',
      'ports:\n  http: 1\n',
      'katamari.yaml:2: ports.http: unknown key, expected one of thrift, jsonRpc, stats, link, consul',
    ],
    [
      'the beginning of a key',
      'ports:\n  json: 1\n',
      'katamari.yaml:2: ports.json: unknown key, did you mean "jsonRpc"?',
    ],
    [
      'a bare number for a duration',
      'timeout: 10',
      'katamari.yaml:1: timeout: found 10, expected a duration with its unit, such as "10ms" or "10s"',
    ],
    [
      'a bare number for a size',
      'limits: {frame: "16"}',
      'katamari.yaml:1: limits.frame: found "16", expected a size with its unit, such as "16B" or "16MiB"',
    ],
    [
      'a size too small',
      'limits: {frame: 10B}',
      'katamari.yaml:1: limits.frame: found "10B", expected a size of at least 1KiB',
    ],
    ['a duration of nothing', 'timeout: 0', 'katamari.yaml:1: timeout: found 0, expected a duration above 0'],
    [
      'a duration no timer can hold',
      'timeout: 400d',
      'katamari.yaml:1: timeout: found "400d", expected a duration of at most "24d"',
    ],
    [
      'a port out of range',
      'ports:\n  thrift: 99999\n',
      'katamari.yaml:2: ports.thrift: found 99999, expected a port, 0 to 65535',
    ],
    [
      'a port twice',
      'ports: {stats: 9080}',
      'katamari.yaml:1: ports.stats: found 9080, which ports.jsonRpc already uses, expected another port',
    ],
    [
      'a version that reads as a number',
      'deployments:\n  - {service: A, version: 1.0, command: [a]}',
      'katamari.yaml:2: deployments[0].version: found 1.0, expected a version in quotes such as "1.0.0"',
    ],
    [
      'a service that is no identifier',
      'deployments:\n  - {service: 9to5, version: "1", command: [a]}',
      'katamari.yaml:2: deployments[0].service: found "9to5", expected the name of a Thrift service, such as "Calculator"',
    ],
    [
      'a command as text',
      'deployments:\n  - {service: A, version: "1", command: python3 a.py}',
      'katamari.yaml:2: deployments[0].command: found "python3 a.py", expected a list such as ["python3", "worker.py"]',
    ],
    [
      'neither command nor script',
      'deployments:\n  - {service: A, version: "1"}',
      'katamari.yaml:2: deployments[0]: found neither command nor script, expected command (a list) or script (a JavaScript or TypeScript file)',
    ],
    [
      'both command and script',
      `${CALCULATOR}    script: a.js\n`,
      'katamari.yaml:5: deployments[0].script: found command and script, expected only one of the two',
    ],
    [
      'missing keys',
      'deployments:\n  - {command: [a]}',
      'katamari.yaml:2: deployments[0].service: missing, expected the name of a Thrift service, such as "Calculator"',
      'katamari.yaml:2: deployments[0].version: missing, expected a version in quotes such as "1.0.0"',
    ],
    [
      'a deployment twice',
      `${CALCULATOR}${CALCULATOR.replace('deployments:\n', '')}`,
      'katamari.yaml:6: deployments[1].version: found Calculator@1.0.0, which deployments[0] already deploys; for more copies raise the count there',
    ],
    [
      'a plain server without an interface',
      `${CALCULATOR}    kit: none\n`,
      'katamari.yaml:2: deployments[0].idl: missing, expected a .thrift file, because a server with kit: none cannot describe itself',
    ],
    [
      'folders for the includes of no interface',
      `${CALCULATOR}    includes: [idl]\n`,
      'katamari.yaml:5: deployments[0].includes: found folders without idl, expected only together with it: they have the files that the IDL includes',
    ],
    [
      'an unknown transport, and a protocol with another name in the mesh',
      `${CALCULATOR}    kit: none\n    idl: c.thrift\n    transport: unframed\n    protocol: TCompact\n`,
      'katamari.yaml:7: deployments[0].transport: found "unframed", expected "framed", "buffered" or "header"',
      'katamari.yaml:8: deployments[0].protocol: found "TCompact", expected "binary", "old-binary", "compact" or "json"',
    ],
    [
      'a protocol that its transport does not carry',
      `${CALCULATOR}    kit: none\n    idl: c.thrift\n    transport: header\n    protocol: json\n`,
      'katamari.yaml:8: deployments[0].protocol: found "json" with transport: header, expected "binary" or "compact"',
    ],
    [
      'a health check that is no name',
      `${CALCULATOR}    kit: none\n    idl: c.thrift\n    healthCheck: ready()\n`,
      'katamari.yaml:7: deployments[0].healthCheck: found "ready()", expected the name of a method',
    ],
    [
      'what a chassis with the library is not told',
      `${CALCULATOR}    transport: buffered\n    healthCheck: ready\n`,
      'katamari.yaml:5: deployments[0].transport: found "buffered" without kit: none, expected only together with it: a chassis with the SDK does not need this key',
      'katamari.yaml:6: deployments[0].healthCheck: found "ready" without kit: none, expected only together with it: a chassis with the SDK does not need this key',
    ],
    [
      'more connections to a plain server than anybody has',
      `${CALCULATOR}    kit: none\n    idl: c.thrift\n    concurrency: 5000\n`,
      'katamari.yaml:7: deployments[0].concurrency: found 5000, expected at most 1000 with kit: none, which opens one connection for each',
    ],
    [
      'TLS that is required and not there',
      'thrift:\n  tls:\n    required: true\n    keyFile: x.key\n',
      'katamari.yaml:2: thrift.tls.certFile: missing, expected a file: TLS on the Thrift port needs certFile and keyFile',
    ],
    [
      'a number in the environment',
      `${CALCULATOR}    env: { PORT: 80 }\n`,
      'katamari.yaml:5: deployments[0].env.PORT: found 80, expected text; put it in quotes',
    ],
    [
      'a list where a map belongs',
      'limits: [1]',
      'katamari.yaml:1: limits: found a list, expected a map with frame, nesting, batch, connections ...',
    ],
    ['a map where a list belongs', 'deployments: {}', 'katamari.yaml:1: deployments: found a map, expected a list'],
    [
      'a route to no version',
      'routes:\n  A:\n    weights: { one: 1 }',
      'katamari.yaml:3: routes.A.weights.one: found the key "one", expected a version in quotes such as "1.0.0"',
    ],
    [
      'weights of nothing',
      'routes:\n  A:\n    weights: { "1": 0 }',
      'katamari.yaml:3: routes.A.weights: found only weights of 0, expected one above 0',
    ],
    [
      'a rule without a condition',
      'routes:\n  A:\n    rules:\n      - { name: all, to: "1.0.0" }',
      'katamari.yaml:4: routes.A.rules[0]: found no condition, expected one: for all calls, set a weight',
    ],
    [
      'two rules of one name',
      'routes:\n  A:\n    rules:\n      - { name: x, to: "1.0.0", keys: [a] }\n      - { name: x, to: "1.0.0", keys: [b] }',
      'katamari.yaml:5: routes.A.rules[1].name: found "x", which is taken, expected another name',
    ],
    [
      'a rule by a header of the mesh',
      'routes:\n  A:\n    rules:\n      - { name: x, to: "1.0.0", headers: { katamari-key: a } }',
      'katamari.yaml:4: routes.A.rules[0].headers.katamari-key: found the key "katamari-key", expected the name of a header in lower case, not of the mesh',
    ],
    [
      'a share above 100',
      'routes:\n  A:\n    rules:\n      - { name: x, to: "1.0.0", share: 101 }',
      'katamari.yaml:4: routes.A.rules[0].share: found 101, expected a percentage, 0 to 100',
    ],
    [
      'an unknown fallback',
      'routes:\n  A:\n    fallback: never',
      'katamari.yaml:3: routes.A.fallback: found "never", expected "others", "fail" or a version in quotes',
    ],
    [
      'a mirror that forces all methods',
      'routes:\n  A:\n    mirror: { to: "2.0.0", force: true }',
      'katamari.yaml:3: routes.A.mirror.force: found force without methods, expected the methods to force',
    ],
    [
      'a hedge that is no percentile',
      'routes:\n  A:\n    hedge: { get: 95 }',
      'katamari.yaml:3: routes.A.hedge.get: found 95, expected a percentile from p50 to p99.9, such as "p95", or "off"',
    ],
    [
      'a majority that is none',
      'routes:\n  A:\n    majority: { get: 1 of 3 }',
      'katamari.yaml:3: routes.A.majority.get: found "1 of 3", expected more than half of 2 to 9 copies, such as "2 of 3", "2 of 3 or fewer" or "2 of 3 versions", or "off"',
    ],
    [
      'a hedge and a majority of a method',
      'routes:\n  A:\n    hedge: { get: p95 }\n    majority: { get: 2 of 3 }',
      'katamari.yaml:4: routes.A.majority: found get, which has a hedge, expected one of them for each method',
    ],
    [
      'a mirror to no version',
      'routes:\n  A:\n    mirror: { to: "two" }',
      'katamari.yaml:3: routes.A.mirror.to: found "two", expected a version in quotes such as "1.0.0"',
    ],
    [
      'a version key that reads as a number',
      'routes:\n  A:\n    weights: { 1.0: 1 }',
      'katamari.yaml:3: found the key 1.0, which reads as the number 1; write "1.0"',
    ],
    [
      'two Consuls at once',
      'consul:\n  embedded: true\n  address: 127.0.0.1:8500\n',
      'katamari.yaml:3: consul.address: found "127.0.0.1:8500" together with embedded: true, expected only one of them',
    ],
    [
      'a short token',
      'admin: {token: abc}',
      'katamari.yaml:1: admin.token: found ********, expected text of at least 16 characters',
    ],
    ['text at the top', 'hello', 'katamari.yaml:1: found "hello", expected a map of settings such as "timeout: 10s"'],
    ['a key twice', 'mesh: a\nmesh: b', 'katamari.yaml:2: this key occurs twice in one map, expected once'],
    ['a tab', 'ports:\n\tthrift: 1', 'katamari.yaml:2: found a tab as indentation, expected spaces'],
    [
      'an alias to nothing',
      'mesh: *x',
      'katamari.yaml:1: unresolved alias (the anchor must be set before the alias): x',
    ],
  ];
  for (const [name, text, ...expected] of cases) {
    test(`${name} is refused with its line, the value and the expected value`, () => {
      expect(problems(text)).toEqual(expected);
    });
  }

  test('all problems are reported at once, in the order of the file', () => {
    expect(problems('tiemout: 1s\nhost: 3\nlimits:\n  batch: 0\n')).toEqual([
      'katamari.yaml:1: tiemout: unknown key, did you mean "timeout"?',
      'katamari.yaml:2: host: found 3, expected an address or host name',
      'katamari.yaml:4: limits.batch: found 0, expected a whole number, 1 to 100000',
    ]);
  });

  test('an invalid variable or flag is reported under its own name, not the file’s', () => {
    expect(problems('ports: { thrift: 1 }', { KATAMARI_PORTS_THRIFT: 'abc' })).toEqual([
      'KATAMARI_PORTS_THRIFT: ports.thrift: found "abc", expected a port, 0 to 65535',
    ]);
    expect(problems('', {}, [{ flag: '--timeout', key: 'timeout', value: '5' }])).toEqual([
      '--timeout: timeout: found "5", expected a duration with its unit, such as "5ms" or "5s"',
    ]);
  });

  test('a flag for an unknown key is an invalid command line', () => {
    try {
      load('', {}, [{ flag: '--set limts.frame', key: 'limts.frame', value: '1MiB' }]);
      expect('refused').toBe('accepted');
    } catch (error) {
      expect((error as ExitError).exitCode).toBe(2);
      expect((error as ExitError).message).toBe(
        '--set limts.frame: "limts.frame" is not a setting that a flag can set, did you mean "limits.frame"?',
      );
    }
  });

  test('a missing file is named', () => {
    expect(() => loadConfig({ file: 'no.yaml', cwd: directory, env: {}, flags: [] })).toThrow(
      'no.yaml: no such file; name the configuration with --config FILE or KATAMARI_CONFIG',
    );
  });
});
