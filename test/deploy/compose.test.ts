// compose.yaml: it conforms to the Compose specification, it describes the intended mesh, and the real loader accepts
// the configuration of every process, so that the two cannot drift apart. Nothing is run, because Docker may be
// missing.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { Ajv } from 'ajv';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../../services/cli/program.ts';
import { loadConfig, type LoadedConfig } from '../../services/config/mod.ts';
import { parse } from 'yaml';
import { REPOSITORY } from '../kit/tools/repository.ts';

interface Service {
  readonly image: string;
  readonly hostname?: string;
  readonly command?: readonly string[] | string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly secrets?: readonly { readonly source: string; readonly uid: string; readonly mode: number }[];
  readonly configs?: readonly { readonly source: string; readonly target: string }[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean };
  readonly restart: string;
  readonly stop_grace_period?: string;
}
interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly configs: Readonly<Record<string, { readonly file: string }>>;
  readonly secrets: Readonly<Record<string, { readonly environment: string }>>;
  readonly volumes: Readonly<Record<string, null>>;
}

const read = (file: string): string => readFileSync(path.join(REPOSITORY, file), 'utf8');
const document = parse(read('compose.yaml'), { merge: true }) as Compose;
const { services } = document;
const named = (start: string): [string, Service][] =>
  Object.entries(services).filter(([name]) => name.startsWith(start));
const processes = ['master-', 'manager-', 'faceplate-'].flatMap(named);
/** The command and settings of the image. */
const IMAGE_ENV = { KATAMARI_CONFIG: '/etc/katamari/katamari.yaml', NODE_ENV: 'production', HOME: '/home/x' };

/** The configuration of the process in that container. */
function configOf({ environment = {}, hostname }: Service): LoadedConfig {
  const { KATAMARI_CONFIG: _, ...env } = { ...IMAGE_ENV, ...environment };
  const file = path.join(REPOSITORY, document.configs['katamari']?.file ?? '');
  const flags = hostname === undefined ? [] : [{ flag: 'hostname', key: 'name', value: hostname }];
  return loadConfig({ file, env, cwd: '/app', flags });
}

function validator(): (value: unknown) => string[] {
  const home = path.dirname(createRequire(import.meta.url).resolve('dclint/package.json'));
  // Ajv has this edition of JSON Schema under another name.
  const { $schema: _, ...schema } = JSON.parse(
    readFileSync(path.join(home, 'schemas/compose.schema.json'), 'utf8'),
  ) as Record<string, unknown>;
  const validate = new Ajv({ strict: false, allErrors: true }).compile(schema);
  return (value) => {
    validate(value);
    return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
  };
}

describe('compose.yaml', () => {
  test('conforms to the Compose specification', () => {
    const problemsOf = validator();
    expect(problemsOf(document)).toEqual([]);
    const misspelt = { ...document, services: { a: { image: 'a', enviroment: {} } } };
    expect(problemsOf(misspelt)).toEqual(['/services/a must NOT have additional properties']);
  });

  test('has three Consul servers, two masters, three managers, two faceplates and Prometheus', () => {
    const counts = ['consul-', 'master-', 'manager-', 'faceplate-', 'prometheus'].map((start) => named(start).length);
    expect(counts).toEqual([3, 2, 3, 2, 1]);
    for (const [name] of named('consul-')) expect(services[name]?.command).toContain(`-retry-join=${name}`);
    expect(services['consul-1']?.command).toContain('-bootstrap-expect=3');
  });

  test('refers only to things that it defines', () => {
    for (const [name, service] of Object.entries(services)) {
      expect([name, Object.keys(service.depends_on ?? {}).filter((other) => !(other in services))]).toEqual([name, []]);
      expect([name, (service.secrets ?? []).filter(({ source }) => !(source in document.secrets))]).toEqual([name, []]);
      expect([name, (service.configs ?? []).filter(({ source }) => !(source in document.configs))]).toEqual([name, []]);
      const volumes = (service.volumes ?? []).map((volume) => volume.split(':')[0] ?? '');
      expect([name, volumes.filter((volume) => !(volume in document.volumes))]).toEqual([name, []]);
    }
    for (const { file } of Object.values(document.configs)) expect(read(file)).not.toBe('');
    const used = Object.values(services).flatMap(({ volumes = [] }) => volumes.map((volume) => volume.split(':')[0]));
    expect([...used].sort()).toEqual(Object.keys(document.volumes).sort());
  });

  test('publishes each port once, on loopback', () => {
    const published = Object.values(services).flatMap(({ ports = [] }) => ports);
    expect(published.every((port) => port.startsWith('127.0.0.1:'))).toBe(true);
    const hostPorts = published.map((port) => port.split(':')[1]);
    expect(new Set(hostPorts).size).toBe(hostPorts.length);
  });

  test('restarts services by itself, and stops them gracefully', () => {
    for (const [name, { restart, healthcheck }] of Object.entries(services)) {
      expect([name, restart]).toEqual([name, name === 'deploy' ? 'on-failure' : 'unless-stopped']);
      // The others use that of the image.
      if (!/^(master|manager)-/.test(name)) expect([name, healthcheck]).not.toEqual([name, undefined]);
    }
    const samples = loadConfig({
      file: path.join(REPOSITORY, 'examples/katamari.yaml'),
      env: {},
      cwd: '/',
      flags: [],
    }).config;
    for (const [name, service] of processes) {
      const { timeoutMs } = configOf(service).config;
      const chassisMs = Math.max(
        ...samples.deployments.map(({ drainTimeoutMs, stopGraceMs }) => drainTimeoutMs + stopGraceMs),
      );
      const graceMs = Number(/^(\d+)s$/.exec(service.stop_grace_period ?? '')?.[1]) * 1_000;
      expect([name, graceMs > timeoutMs + chassisMs]).toEqual([name, true]);
    }
  });
});

describe('Every process of compose.yaml', () => {
  test('has a configuration that the loader accepts without a warning', () => {
    expect(processes.length).toBe(7);
    for (const [name, service] of processes) {
      const { config, warnings, settings } = configOf(service);
      expect([name, warnings]).toEqual([name, []]);
      expect([config.mesh, config.name, config.advertise, config.host]).toEqual(['main', name, name, '0.0.0.0']);
      expect([name, config.consul.embedded]).toEqual([name, false]);
      expect(Object.keys(services)).toContain(new URL(config.consul.address).hostname);
      expect(new URL(config.consul.address).port).toBe('8500');
      const ofEnvironment = settings.filter(({ from }) => from.startsWith('env ')).map(({ from }) => from.slice(4));
      expect([name, [...ofEnvironment].sort()]).toEqual([name, Object.keys(service.environment ?? {}).sort()]);
    }
  });

  test('finds its secrets and its data at the expected paths', () => {
    for (const [name, service] of processes) {
      const { config } = configOf(service);
      const secrets = (service.secrets ?? []).map(({ source }) => `/run/secrets/${source}`);
      // A secret file that others can read is refused.
      for (const { uid, mode } of service.secrets ?? []) expect([uid, mode]).toEqual(['1000', 0o400]);
      expect([name, secrets]).toEqual([name, [config.link.secretFile, config.admin.tokenFile]]);
      expect([name, service.volumes]).toEqual([name, [`${name}:${config.dataDir}`]]);
      expect(service.configs).toEqual([{ source: 'katamari', target: IMAGE_ENV.KATAMARI_CONFIG }]);
    }
  });

  test('listens on the ports that are published for it', () => {
    for (const [, service] of named('faceplate-')) {
      const { thrift, jsonRpc, stats } = configOf(service).config.ports;
      const inside = (service.ports ?? []).map((port) => Number(port.split(':')[2]));
      expect(inside).toEqual([thrift, jsonRpc, stats]);
    }
    expect(configOf(processes[0]?.[1] as Service).config.ports.stats).toBe(9081);
  });

  test('is spread over the Consul servers, with ordered masters', () => {
    const consuls = new Set(named('manager-').map(([, service]) => configOf(service).config.consul.address));
    expect(consuls.size).toBe(3);
    const ranks = named('master-').map(([, service]) => configOf(service).config.master.rank);
    expect(new Set(ranks).size).toBe(2);
  });

  test('is started by an existing command, and so is the deploy step', async () => {
    for (const [name, service] of [...processes, ...named('deploy')]) {
      const [command = '', ...options] = service.command as readonly string[];
      expect([name, command]).toEqual([name, name.replace(/-\d$/, '')]);
      const help = await helpOf(command);
      for (const option of options.filter((one) => one.startsWith('--'))) expect(help).toContain(`${option} `);
    }
    const [, file = ''] = (services['deploy'] as Service).command as readonly string[];
    expect(read(file.replace('/app/dist/', ''))).toContain('deployments:');
  });
});

async function helpOf(command: string): Promise<string> {
  let text = '';
  const terminal = { write: (part: string) => (text += part), writeError: () => undefined, columns: () => 100 };
  const context = { terminal, env: {}, cwd: '/' } as unknown as Parameters<typeof runProgram>[1];
  expect([command, await runProgram([command, '--help'], context)]).toEqual([command, 0]);
  return text;
}
