// What a chassis logs when a handler throws: one line for an error of the mesh, the stack of any other.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fixture, startTestMesh, work, type TestMesh } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

let mesh: TestMesh;
beforeAll(async () => {
  mesh = await startTestMesh([work(), work({ service: 'Librarian', command: fixture('librarian.ts') })]);
  await mesh.mesh.whenReady;
}, 60_000);
afterAll(() => mesh.end());

/** The first line of the log of a service that has these words. */
async function logged(service: string, words: string): Promise<Readonly<Record<string, unknown>>> {
  const line = await until(`${words} in the log of ${service}`, () =>
    mesh.lines.find((one) => one.startsWith(`${service}@`) && one.includes(words)),
  );
  return JSON.parse(line.slice(line.indexOf('{'))) as Readonly<Record<string, unknown>>;
}

describe('A handler that throws', () => {
  test('an error of the mesh is logged as a warning with its code, without a stack', async () => {
    const { error } = await mesh.call('Librarian.count', { index: 'nobody', query: 'x' });
    expect(error?.message).toMatch(/^Librarian\.count failed: /);
    const line = await logged('Librarian', '"method":"count"');
    expect(line).toMatchObject({
      level: 40,
      code: 'no_pool',
      msg: error?.message.slice('Librarian.count failed: '.length),
    });
    expect(line).not.toHaveProperty('err');
  });

  test('any other error is logged as an error with its stack', async () => {
    await mesh.call('Work.undeclared', { why: 'the roof fell in' });
    expect(await logged('Work', 'the roof fell in')).toMatchObject({
      level: 50,
      method: 'undeclared',
      err: { message: 'the roof fell in', stack: expect.stringContaining('work.') as string },
    });
  });
});
