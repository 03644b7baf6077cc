// deploy/prometheus.yml: it queries the Consul servers of compose.yaml, promtool accepts it, and a real Prometheus
// converts what a real Consul has of a process into the right labels. Debian's Prometheus is built without Consul
// discovery. A file therefore provides the discovered targets as the manual of consul_sd_configs describes them; the
// relabel rules are those of the file.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { freePorts, startConsul } from '../kit/consul/consul.ts';
import { consulClient } from '../../services/consul/mod.ts';
import { EventLog, Presence } from '../../services/mesh/mod.ts';
import { promtoolConfig } from '../kit/tools/promtool.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';

interface Job {
  readonly job_name: string;
  readonly consul_sd_configs?: readonly { readonly server: string; readonly services: readonly string[] }[];
  readonly relabel_configs: readonly object[];
}
const given = parse(readFileSync(path.join(REPOSITORY, 'deploy/prometheus.yml'), 'utf8')) as {
  readonly global: object;
  readonly scrape_configs: readonly Job[];
};
const [job] = given.scrape_configs as readonly [Job];

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function folder(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'katamari-prometheus-'));
  ends.push(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** The configuration with another kind of discovery. */
function withTargetsFrom(file: string): string {
  const { consul_sd_configs: _, ...rest } = job;
  const found = { ...rest, scrape_interval: '1s', file_sd_configs: [{ files: [file] }] };
  return stringify({ ...given, global: { ...given.global, scrape_interval: '1s' }, scrape_configs: [found] });
}

interface HealthEntry {
  readonly Service: {
    readonly ID: string;
    readonly Address: string;
    readonly Port: number;
    readonly Tags: string[];
    readonly Meta: Record<string, string>;
  };
}

describe('deploy/prometheus.yml', () => {
  test('queries every Consul server of compose.yaml for the service of stats faceplates', () => {
    const { services } = parse(readFileSync(path.join(REPOSITORY, 'compose.yaml'), 'utf8'), { merge: true }) as {
      services: Record<string, unknown>;
    };
    const servers = Object.keys(services)
      .filter((name) => name.startsWith('consul-'))
      .map((name) => `${name}:8500`);
    expect(job.consul_sd_configs?.map(({ server }) => server)).toEqual(servers);
    for (const { services: wanted } of job.consul_sd_configs ?? []) expect(wanted).toEqual(['katamari-stats']);
  });

  test('is accepted by promtool', async () => {
    const file = path.join(folder(), 'prometheus.yml');
    writeFileSync(file, withTargetsFrom('/none.json'));
    const { code, said } = await promtoolConfig(file);
    expect([code, said]).toEqual([0, expect.stringContaining('is valid prometheus config file syntax')]);
    writeFileSync(file, withTargetsFrom('/none.json').replace('target_label', 'target_lable'));
    expect((await promtoolConfig(file)).code).toBe(1);
  });

  test('labels a process by its mesh, its name and its roles, and scrapes it', async () => {
    const consul = await startConsul('real');
    ends.push(() => consul.close());
    const client = consulClient({ address: consul.address });
    ends.push(() => client.close());
    const stats = createServer((_, response) => response.end('katamari_ready 1\n'));
    await new Promise<void>((resolve) => stats.listen(0, '127.0.0.1', resolve));
    ends.push(() => stats.close());
    const { port } = stats.address() as AddressInfo;
    const listener = (service: string): { service: string; host: string; port: number } => ({
      service,
      host: '127.0.0.1',
      port,
    });
    const presence = new Presence({
      client,
      mesh: 'main',
      name: 'one',
      roles: ['manager', 'faceplate'],
      listeners: [listener('katamari-manager'), listener('katamari-stats')],
      events: new EventLog('one'),
      onError: () => undefined,
    });
    ends.push(() => presence.close());
    const found = await until('the stats faceplate in Consul', async () => {
      const seen = (await client.api.health.service({ service: 'katamari-stats' })) as HealthEntry[];
      return seen[0];
    });
    const { Address, Port, Tags, Meta } = found.Service;
    const labels = {
      __meta_consul_tags: `,${Tags.join(',')},`,
      __meta_consul_service: 'katamari-stats',
      ...Object.fromEntries(
        Object.entries(Meta).map(([key, value]) => [`__meta_consul_service_metadata_${key}`, value]),
      ),
    };
    const target = await scrape([{ targets: [`${Address}:${Port}`], labels }]);
    expect(target.labels).toEqual({ job: 'katamari', mesh: 'main', instance: 'one', role: 'manager,faceplate' });
    expect(target.scrapeUrl).toBe(`http://127.0.0.1:${port}/metrics`);
  });
});

interface Target {
  readonly labels: Record<string, string>;
  readonly scrapeUrl: string;
  readonly health: string;
}

/** Labels that a real Prometheus gives to targets, once it has scraped the first. */
async function scrape(targets: readonly object[]): Promise<Target> {
  const home = folder();
  const at = (name: string): string => path.join(home, name);
  writeFileSync(at('targets.json'), JSON.stringify(targets));
  writeFileSync(at('prometheus.yml'), withTargetsFrom(at('targets.json')));
  const [port] = await freePorts(1);
  const flags = [`--config.file=${at('prometheus.yml')}`, `--storage.tsdb.path=${at('data')}`];
  const child = spawn(toolPath('prometheus'), [...flags, `--web.listen-address=127.0.0.1:${port}`], {
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  ends.push(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return until('Prometheus to scrape the process', async () => {
    try {
      const answer = await fetch(`http://127.0.0.1:${port}/api/v1/targets`);
      const { data } = (await answer.json()) as { data: { activeTargets: Target[] } };
      return data.activeTargets.find(({ health }) => health === 'up');
    } catch {
      return undefined;
    }
  });
}
