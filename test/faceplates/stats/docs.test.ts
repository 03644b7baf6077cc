// Compares docs/observability.md with what is served: its table of metrics, and its Prometheus examples with
// promtool.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { promtoolConfig } from '../../kit/tools/promtool.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';
import { toolPath } from '../../kit/tools/tools.ts';
import { FakeMesh } from './fake-mesh.ts';

const page = readFileSync(join(REPOSITORY, 'docs', 'observability.md'), 'utf8');

describe('docs/observability.md', () => {
  test('lists every metric of the mesh with its type, and no other', async () => {
    const faceplate = await new FakeMesh().serve();
    const metrics = await (await fetch(`http://127.0.0.1:${faceplate.port}/metrics`)).text();
    await faceplate.close();
    const served = [...metrics.matchAll(/^# TYPE (katamari_\w+) (\w+)$/gm)].map(([, name, type]) => `${name} ${type}`);
    // Those of indices exist in a mesh with indices alone.
    const [common = ''] = page.split('### Metrics of indices');
    const listed = [...common.matchAll(/^\| `(katamari_\w+)` \| (\w+) \|/gm)].map(
      ([, name, type]) => `${name} ${type}`,
    );
    expect(listed.toSorted()).toEqual(served.toSorted());
  });

  test('contains scrape configurations and alert rules that promtool accepts', async () => {
    const examples = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map((match) => match[1] ?? '');
    const scrapes = examples.filter((text) => text.startsWith('scrape_configs:'));
    const rules = examples.filter((text) => text.startsWith('groups:'));
    expect([scrapes.length, rules.length]).toEqual([3, 1]);
    const folder = mkdtempSync(join(tmpdir(), 'katamari-docs-'));
    try {
      const file = join(folder, 'example.yaml');
      for (const text of scrapes) {
        writeFileSync(file, withoutConsul(text));
        expect(await promtoolConfig(file)).toEqual({ code: 0, said: expect.stringContaining('SUCCESS') });
      }
      for (const text of rules) {
        writeFileSync(file, text);
        expect(execFileSync(toolPath('promtool'), ['check', 'rules', file], { encoding: 'utf8' })).toContain('SUCCESS');
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

interface Job {
  readonly consul_sd_configs?: readonly { readonly server: string; readonly services: readonly string[] }[];
}

/**
 * Debian's Prometheus is built without Consul discovery. A static list of the same targets takes its place, and the
 * Consul part is checked here.
 */
function withoutConsul(text: string): string {
  const { scrape_configs: jobs } = parse(text) as { scrape_configs: readonly Job[] };
  const others = jobs.map(({ consul_sd_configs: consul, ...job }) => {
    if (consul === undefined) return job;
    expect(consul).toEqual([{ server: '127.0.0.1:8500', services: ['katamari-stats'] }]);
    return { ...job, static_configs: [{ targets: consul.map(({ server }) => server) }] };
  });
  return stringify({ scrape_configs: others });
}
