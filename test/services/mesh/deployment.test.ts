import { describe, expect, test } from 'vitest';
import { deploymentFor } from '../../kit/mesh/deployments.ts';
import { parseIdl } from '../../../core/idl/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { DEPLOYMENT, whyNoHealthCheck } from '../../../services/mesh/mod.ts';

const idl = {
  main: 'a.thrift',
  files: { 'a.thrift': 'service A { bool ready() i32 add(1: i32 one) oneway void say() }' },
};

describe('A deployment from outside', () => {
  test('may come from a version in which plain servers spoke only framed binary', () => {
    const { transport: _, protocol: __, healthCheck: ___, ...old } = deploymentFor({ service: 'A', idl });
    expect(DEPLOYMENT.parse(old)).toEqual({ ...old, transport: 'framed', protocol: 'binary', healthCheck: '' });
  });

  test.each([
    [{ transport: 'header', protocol: 'json' }, 'protocol', 'transport header carries protocol binary or compact'],
    [{ concurrency: 1_001 }, 'concurrency', 'a plain server takes at most 1000 calls at once'],
    [{ healthCheck: 'is well' }, 'healthCheck', 'Invalid string'],
  ])('is refused with %o', (change, key, why) => {
    const found = DEPLOYMENT.safeParse({ ...deploymentFor({ service: 'A', idl }), ...change });
    expect(found.error?.issues.map(({ path, message }) => [path.join('.'), message])).toEqual([
      [key, expect.stringContaining(why)],
    ]);
    expect(DEPLOYMENT.safeParse({ ...deploymentFor({ service: 'A' }), concurrency: 1_001 }).success).toBe(true);
  });

  test.each([
    ['ready', undefined],
    ['reedy', 'A has no method "reedy"; it has ready, add, say'],
    ['add', 'add has arguments; the method of a health check must have none'],
    ['say', 'say is oneway, so it returns no result'],
  ])('takes method %s for a health check or says why not', (name, why) => {
    expect(whyNoHealthCheck(parseIdl(idl).services.get('A') as Interface, name)).toBe(why);
  });
});
