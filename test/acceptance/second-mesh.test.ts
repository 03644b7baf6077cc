import { afterEach, describe, expect, test } from 'vitest';
import { work } from '../kit/mesh/mesh.ts';
import { MeshEnded, startMeshProcess, type MeshProcess, type MeshProcessOptions } from '../kit/mesh/mesh-process.ts';

const meshes: MeshProcess[] = [];
afterEach(async () => {
  await Promise.all(meshes.splice(0).map((mesh) => mesh.end()));
});

async function up(options: MeshProcessOptions = {}): Promise<MeshProcess> {
  const mesh = await startMeshProcess({ deployments: [work()], ...options });
  meshes.push(mesh);
  return mesh;
}

/** The exit of a mesh that must not start. */
async function refused(options: MeshProcessOptions): Promise<MeshEnded> {
  try {
    await up(options);
  } catch (error) {
    if (error instanceof MeshEnded) return error;
    throw error;
  }
  throw new Error('It came up');
}

describe('A second mesh', () => {
  test('on a port of the first is refused, with the port, its key and the remedy', async () => {
    const first = await up();
    const { thrift, jsonRpc, stats, link, consul } = first.addresses;
    for (const [key, address] of Object.entries({ thrift, jsonRpc, stats, link, consul })) {
      const port = Number(address.split(':').at(-1));
      const ports = { thrift: 0, jsonRpc: 0, stats: 0, link: 0, consul: 0, [key]: port };
      const { code, stderr } = await refused({ settings: { ports } });
      expect([key, code]).toEqual([key, 1]);
      expect(stderr).toContain(`Port ${port} (ports.${key}) is in use. Is another mesh running?`);
      expect(stderr).toContain(`--set ports.${key}=PORT`);
    }
    expect((await first.call('Work.say', { text: 'the first goes on' })).result).toBe('the first goes on');
  }, 120_000);

  test('on the data directory of the first is refused, and the first continues', async () => {
    const first = await up();
    const { code, stderr } = await refused({ directory: first.directory });
    expect(code).toBe(1);
    expect(stderr).toContain(`Cannot use the data directory ${first.directory}/data`);
    expect(stderr).toMatch(/another .* uses it/);
    expect((await first.call('Work.say', { text: 'the first goes on' })).result).toBe('the first goes on');
  });

  test('on the data directory of a killed mesh starts', async () => {
    const first = await up();
    await first.kill('process');
    const second = await up({ directory: first.directory });
    expect((await second.call('Work.say', { text: 'here' })).result).toBe('here');
    expect(second.adminToken).toBe(first.adminToken);
  });
});
