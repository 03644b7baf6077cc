// `katamari.Mesh.describe`: which version of a service it describes.
import { expect, test } from 'vitest';
import { decodeStruct, encodeStruct } from '../../../core/idl/mod.ts';
import { createCall, dispatchOf, meshInterface } from '../../../core/rpc/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { withMeshService } from '../../../services/process/mesh-service.ts';
import type { Router } from '../../../services/mesh/mod.ts';

const DESCRIBE = meshInterface().methods.get('describe') as Method;

test.each([
  ['', '2.10.0'],
  ['^2.0.0', '2.10.0'],
  ['2.9.0', '2.9.0'],
  ['1.0', '1.0'],
  ['~1.0.0', '1.0.3'],
])('describes, of a request for version "%s", %s', async (requested, described) => {
  expect(await describeWork(['2.9.0', '1.0', '2.10.0', '1.0.3'], requested)).toBe(described);
});

test('describes a version that SemVer does not know when there is no other', async () => {
  expect(await describeWork(['beta', 'alpha'], '')).toBe('beta');
});

async function describeWork(versions: readonly string[], requested: string): Promise<string> {
  const pools = versions.map((version) => ({
    details: { service: 'Work', version },
    interface: { source: { main: 'work.thrift', files: {} } },
  }));
  const router = { pools: () => pools, isVisible: () => true } as unknown as Router;
  const send = withMeshService(router, () => expect.unreachable('the call is for the mesh'));
  const args = encodeStruct(DESCRIBE.args, { serviceName: 'Work', version: requested });
  const call = createCall({
    service: 'katamari.Mesh',
    method: 'describe',
    args,
    deadlineMs: performance.now() + 1_000,
  });
  const { body } = await dispatchOf(send)(call);
  return (decodeStruct(DESCRIBE.result, body)['success'] as { version: string }).version;
}
