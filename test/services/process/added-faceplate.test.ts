// Faceplates of the user: configuration, loading and errors, and one of them (the line protocol of the samples) in a
// whole mesh with real processes, until it ends under load.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { testMeshAccess } from '../../kit/mesh/mesh-access.ts';
import { startTestMesh, work, type TestMesh } from '../../kit/mesh/mesh.ts';
import { ByteLedger, DEFAULT_LIMITS } from '../../../core/mod.ts';
import { ANONYMOUS, StatsTable, type CallerIdentity } from '../../../core/rpc/mod.ts';
import type { Faceplate } from '../../../faceplates/kit/mod.ts';
import { loadConfig, type LoadedConfig } from '../../../services/config/mod.ts';
import { startAddedFaceplate } from '../../../services/process/added-faceplate.ts';
import { rawClient, type RawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';

const LINE = fileURLToPath(new URL('../../../examples/faceplates/line.ts', import.meta.url));

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Loads a configuration from a folder of its own, with other files beside it. */
function load(yaml: string, files: Readonly<Record<string, string>> = {}): LoadedConfig {
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-fronts-'));
  ends.push(() => rmSync(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries({ ...files, 'katamari.yaml': yaml })) {
    mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    writeFileSync(path.join(directory, name), text);
  }
  return loadConfig({ file: undefined, env: {}, cwd: directory, flags: [] });
}

const SHARED = {
  identify,
  callStats: new StatsTable(),
  limits: DEFAULT_LIMITS,
  ledger: new ByteLedger(DEFAULT_LIMITS),
  host: '127.0.0.1',
  access: { hosts: [], origins: [] },
};

/** Starts the faceplate that a module with this text exports; later errors go to `said`. */
async function start(
  module: string | undefined,
  how: {
    readonly name?: string;
    readonly options?: string;
    readonly port?: number;
    readonly said?: string[];
    /** The module name in the configuration; by default its file. */
    readonly as?: string;
  } = {},
): Promise<Faceplate> {
  const { name = 'front.mjs', options = '{}', port = 0, said = [], as = `./${name}` } = how;
  const yaml = `faceplates:\n  - module: ${as}\n    name: own\n    port: ${port}\n    options: ${options}\n`;
  const { config } = load(yaml, module === undefined ? {} : { [name]: module });
  const [entry] = config.faceplates;
  if (entry === undefined) throw new Error('no entry');
  const mesh = testMeshAccess([], 100);
  const given = { mesh, ...SHARED };
  return await startAddedFaceplate(entry, given, (line) => said.push(line));
}

/** Everybody is anonymous here. */
async function identify(): Promise<CallerIdentity> {
  return ANONYMOUS;
}

/** The error of a failed start. */
async function refusal(...how: Parameters<typeof start>): Promise<string> {
  try {
    await start(...how);
  } catch (error) {
    return (error as Error).message.replaceAll(/\/\S*katamari-fronts-\w+/g, 'DIR');
  }
  return 'it started';
}

const module = (start: string, more = ''): string => `export default { ${more} start(context) { ${start} } };`;
const FRONT = "{ address: '127.0.0.1:1', connections: () => 3, async drain() {}, async close() {} }";

describe('A faceplate in katamari.yaml', () => {
  test('is started with its name, port, options and the mesh', async () => {
    const faceplate = await start(
      module(
        `const { name, port, host, options, limits, mesh, callStats } = context;
         if (callStats.sums().accepted !== 0 || mesh.directory.pools().length !== 0) throw new Error('no mesh');
         return { ...${FRONT}, address: [name, host, limits.batchMax, JSON.stringify(options), port].join(':') };`,
        'options: (given) => ({ ...given, more: 1 }),',
      ),
      { options: '{ words: [a, b] }' },
    );
    expect(faceplate.address).toBe('own:127.0.0.1:100:{"words":["a","b"],"more":1}:0');
    expect(faceplate.connections()).toBe(3);
  });

  test('may be a package installed beside the configuration', async () => {
    const faceplate = await start(module(`return ${FRONT};`), {
      name: 'node_modules/own-front/index.mjs',
      as: 'own-front/index.mjs',
    });
    expect(faceplate.address).toBe('127.0.0.1:1');
    expect(await refusal(undefined, { as: 'not-there' })).toMatch(
      /^katamari\.yaml:2: faceplates\[0\]\.module: no package not-there can be found from DIR; npm install it there/,
    );
    expect(await refusal(module(''), { name: 'front.mjs', as: 'front.mjs' })).toContain(
      'write "./front.mjs" for the file',
    );
  });

  test('that cannot be loaded is reported with its position and the remedy', async () => {
    const place = 'katamari.yaml:2: faceplates[0].module: ';
    expect(await refusal(undefined)).toBe(
      `${place}there is no file DIR/front.mjs; paths are relative to the configuration file`,
    );
    expect(await refusal('throw new Error("not today")')).toBe(`${place}./front.mjs cannot be loaded: not today`);
    expect(await refusal('export const start = 1')).toContain(
      'has no default export, expected export default { start(',
    );
    expect(await refusal('export default { begin() {} }')).toContain('a default export that has no function start');
  });

  test('with invalid options names the option', async () => {
    const zodLike = `options: { safeParse: (given) => given.size > 0
      ? { success: true, data: given }
      : { success: false, error: { issues: [{ path: ['size'], message: 'expected a size above 0' }] } } },`;
    expect(await refusal(module(`return ${FRONT};`, zodLike), { options: '{ size: 0 }' })).toBe(
      'katamari.yaml:5: faceplates[0].options.size: expected a size above 0',
    );
    const throwing = "options() { throw new Error('color has to be a colour'); },";
    expect(await refusal(module('', throwing))).toBe(
      'katamari.yaml:5: faceplates[0].options: color has to be a colour',
    );
    expect(await refusal(module(`return ${FRONT};`), { options: '{ size: 0 }' })).toBe(
      'katamari.yaml:5: faceplates[0].options.size: unknown key, ./front.mjs takes no options',
    );
  });

  test('that does not start is reported with the reason', async () => {
    expect(await refusal(module("throw new Error('no licence');"))).toBe(
      'katamari.yaml:2: faceplates[0]: faceplate own (./front.mjs) did not start: no licence',
    );
    for (const wrong of [
      '',
      'return 5;',
      "return { address: '127.0.0.1:1' };",
      `return { ...${FRONT}, address: 'here' };`,
    ]) {
      expect(await refusal(module(wrong))).toContain('expected an object with address (text with the port)');
    }
    const holder = createServer().listen(0, '127.0.0.1');
    ends.push(() => void holder.close());
    await until('the holder', () => holder.listening);
    const { port } = holder.address() as AddressInfo;
    const { config } = load(`faceplates:\n  - { module: ${LINE}, name: line, port: ${port} }\n`);
    const given = { mesh: testMeshAccess([]), ...SHARED };
    let message = '';
    try {
      await startAddedFaceplate(config.faceplates[0] as LoadedConfig['config']['faceplates'][number], given, () => {});
    } catch (error) {
      ({ message } = error as Error);
    }
    expect(message).toMatch(
      /^katamari\.yaml:2: faceplates\[0\]\.port: port \d+ is in use; `katamari doctor` shows which/,
    );
  });

  test('that does not start in time is given up, and closed if it starts listening later', async () => {
    const log: string[] = [];
    (globalThis as { lateFront?: (line: string) => void }).lateFront = (line) => log.push(line);
    const late = module(
      `return new Promise((resolve) => setTimeout(() => resolve({ ...${FRONT}, async close() { lateFront('closed'); } }), 10_300));`,
    );
    expect(await refusal(late)).toContain('did not start: start() did not settle within 10000 ms');
    await until('its end', () => log.includes('closed'));
  });

  test('whose end fails is reported and does not block the shutdown', async () => {
    const said: string[] = [];
    const faceplate = await start(
      module(
        `return { ...${FRONT}, connections() { throw new Error('x'); }, drain() { throw new Error('stuck'); }, close: () => new Promise(() => {}) };`,
      ),
      { said },
    );
    expect(faceplate.connections()).toBe(0);
    await faceplate.drain();
    expect(said).toEqual([
      'drain() of faceplate own failed: stuck',
      'close() of faceplate own failed: abandoned, because it did not settle within 2000 ms',
    ]);
  });
});

describe('The configuration', () => {
  const problems = (yaml: string): string => {
    try {
      load(yaml);
    } catch (error) {
      return (error as Error).message;
    }
    return 'nothing';
  };

  test('refuses conflicting names and ports', () => {
    const entry = (name: string, port: number): string => `  - { module: ./a.mjs, name: ${name}, port: ${port} }\n`;
    expect(problems(`faceplates:\n${entry('web', 1)}`)).toContain(
      'katamari.yaml:2: faceplates[0].name: found "web", a built-in name of Katamari',
    );
    expect(problems(`faceplates:\n${entry('one', 1)}${entry('one', 2)}`)).toContain(
      'katamari.yaml:3: faceplates[1].name: found "one", which faceplates[0] already uses, expected another name',
    );
    expect(problems(`faceplates:\n${entry('one', 9090)}`)).toContain(
      'faceplates[0].port: found 9090, which ports.thrift already uses, expected another port',
    );
    expect(problems(`faceplates:\n${entry('one', 9082)}web: { sites: [{ prefix: /, service: A }] }\n`)).toContain(
      'found 9082, which web.port already uses, expected another port',
    );
    expect(problems(`faceplates:\n${entry('One', 1)}`)).toContain('expected a name of lower-case letters');
    expect(problems(`faceplates:\n${entry('one', 9082)}`)).toBe('nothing');
  });

  test('refuses invalid sites', () => {
    const sites = (...texts: string[]): string =>
      problems(`web:\n  sites:\n${texts.map((text) => `    - ${text}\n`).join('')}`);
    expect(sites('{ prefix: shop, service: A }')).toContain('expected a path such as "/shop", or "/"');
    expect(sites('{ prefix: /shop/, service: A }')).toContain('expected a path such as "/shop", or "/"');
    expect(sites('{ prefix: /a/../b, service: A }')).toContain('expected a path');
    expect(sites('{ prefix: / }')).toContain('web.sites[0]: found neither service nor files');
    expect(sites('{ prefix: /, files: ., version: "1" }')).toContain('web.sites[0].version: found without service');
    expect(sites('{ prefix: /, service: A }', '{ prefix: /, service: B }')).toContain(
      'katamari.yaml:4: web.sites[1].prefix: found "/", which web.sites[0] already uses, expected another prefix',
    );
    expect(sites('{ prefix: /, service: A, cacheControl: "a\\nb" }')).toContain('the value of a Cache-Control header');
  });

  test('shows them among the effective settings', () => {
    const { settings } = load(
      'web: { sites: [{ prefix: /a, service: A, timeout: 5s }] }\nfaceplates:\n  - { module: ./a.mjs, name: one, port: 9100, options: { b: 1 } }\n',
    );
    const shown = Object.fromEntries(settings.map(({ key, value }) => [key, value]));
    expect(shown).toMatchObject({
      'web.port': '9082',
      'web.trustProxy': 'false',
      'web.sites[0].prefix': '/a',
      'web.sites[0].timeout': '5s',
      'web.sites[0].cacheControl': 'no-cache',
      'faceplates[0].name': 'one',
      'faceplates[0].port': '9100',
      'faceplates[0].options': '{"b":1}',
    });
  });
});

describe('The line protocol in a mesh', () => {
  async function lineMesh(
    change: Readonly<Record<string, unknown>> = {},
  ): Promise<{ mesh: TestMesh; client: (first?: string) => Promise<RawClient> }> {
    const mesh = await startTestMesh([work(change)], {
      faceplates: [{ module: LINE, name: 'line', port: 0, options: { service: 'Work' } }],
    });
    ends.push(() => mesh.end());
    await mesh.mesh.whenReady;
    const port = Number(/:(\d+)$/.exec(mesh.mesh.added['line'] ?? '')?.[1]);
    const client = async (first = ''): Promise<RawClient> => {
      const made = await rawClient(port, first);
      ends.push(() => made.destroy());
      return made;
    };
    return { mesh, client };
  }

  test('reads a line of a million spaces in one pass, and keeps those inside of strings', async () => {
    const { client } = await lineMesh();
    const spaces = ' '.repeat(1_000_000);
    const asked = await client(`  Work.say${spaces}{"text": "a  b"}${spaces}\nsay x${spaces}y\n`);
    const [first = '', second = ''] = (await asked.seen(/(.*\n){2}/)).split('\n');
    expect(first).toBe('{"result":"a  b"}');
    expect(second).toContain('Expected JSON after the method');
  });

  test('calls by name and by position, reports errors, and is in status, metrics and Consul', async () => {
    const { mesh, client } = await lineMesh();
    const asked = await client(
      [
        'Work.say {"text": "grüße"}',
        'say ["by position"]',
        'Work@1.0.0.big ["9007199254740993"]',
        'note ["told"]',
        'sorry ["no"]',
        'undeclared ["oh"]',
        'say {"text": 5}',
        'say {',
        'nothing',
        'Nobody.say',
      ]
        .map((line) => `${line}\n`)
        .join(''),
    );
    const text = Buffer.from(await asked.seen(/(.*\n){10}/), 'latin1').toString();
    const answers = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { result?: unknown; error?: { code: string; message: string } });
    expect(answers.slice(0, 3)).toEqual([
      { result: 'grüße' },
      { result: 'by position' },
      { result: '9007199254740994' },
    ]);
    expect(answers[3]).toEqual({ result: null });
    expect(answers[4]).toEqual({
      error: { code: 'exception', message: 'Sorry: no', exception: { name: 'Sorry', why: 'no' } },
    });
    expect(answers.slice(5).map(({ error }) => error?.code)).toEqual([
      'application',
      'bad_request',
      'bad_request',
      'no_pool',
      'no_pool',
    ]);
    expect(answers[6]?.error?.message).toContain('params.text: expected string, got 5');

    const status = mesh.mesh.status();
    expect(status.listeners.find(({ name }) => name === 'line')?.address).toBe(mesh.mesh.added['line']);
    expect(status.connections['line']).toBe(1);
    const metrics = await (await fetch(`${mesh.mesh.addresses.stats}/metrics`)).text();
    expect(metrics).toMatch(/faceplate="line",service="Work",method="say"/);
    await until('its entry in Consul', async () => {
      const [entry] = (await mesh.readConsul('catalog/service/katamari-line')) as { ServicePort: number }[];
      return entry !== undefined && mesh.mesh.added['line']?.endsWith(`:${entry.ServicePort}`);
    });
  });

  test('loses no call when the mesh drains under load', async () => {
    const { mesh, client } = await lineMesh({ count: 3 });
    let answered = 0;
    let refused = 0;
    const talk = async (): Promise<void> => {
      const connection = await client();
      const closed = connection.closed(60_000);
      let seen = 0;
      connection.socket.on('data', () => {
        const lines = connection.received().split('\n').slice(0, -1);
        for (const line of lines.slice(seen)) {
          if ('result' in (JSON.parse(line) as object)) answered++;
          else {
            refused++;
            expect(line).toContain('"code":"draining"');
          }
          connection.write('take [5]\n');
        }
        seen = lines.length;
      });
      for (let ahead = 0; ahead < 4; ahead++) connection.write('take [5]\n');
      await closed;
    };
    const talks = Array.from({ length: 8 }, talk);
    await until('some load', () => answered > 50);
    await mesh.mesh.drain();
    await Promise.all(talks);
    // Every call that ran was answered, and every unanswered call did not run.
    expect(mesh.ledger().filter((line) => line.startsWith('take ')).length).toBe(answered);
    expect(refused).toBeGreaterThan(0);
    const line = mesh.mesh.status().calls;
    expect(line.accepted).toBe(line.replied + line.failed + line.refused + line.timed_out + line.cancelled);
  });
});
