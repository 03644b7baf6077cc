import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { KatamariError } from '../../../core/mod.ts';
import { ANONYMOUS, PeerIdentity, UNAUTHENTICATED, type CallerIdentity } from '../../../core/rpc/mod.ts';
import { until } from '../../kit/tools/wait.ts';
import { lookupOf, TokenAuthenticator, type CallerToken } from '../../../services/access/mod.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const ROBOT = { name: 'robot', roles: ['machines'], sha256: sha256('open-sesame') };
const SIGNED = 'aaaa.bbbb.cccc';

function authenticator(change: Partial<ConstructorParameters<typeof TokenAuthenticator>[0]> = {}): TokenAuthenticator {
  return new TokenAuthenticator({
    anonymous: 'loopback',
    lookups: [lookupOf([ROBOT])],
    jwt: undefined,
    checksTokens: () => true,
    ...change,
  });
}

/** The identity that a header gives on a new connection, or the error. */
async function identify(
  by: TokenAuthenticator,
  authorization: string,
  address = '127.0.0.1',
): Promise<CallerIdentity | KatamariError> {
  try {
    return await new PeerIdentity(by, address).of(authorization);
  } catch (error) {
    return error as KatamariError;
  }
}

describe('A caller without a token', () => {
  test.each([
    ['loopback', '127.0.0.1', ANONYMOUS],
    ['loopback', '::1', ANONYMOUS],
    ['loopback', '::ffff:127.0.0.1', ANONYMOUS],
    ['loopback', '10.0.0.7', UNAUTHENTICATED],
    ['loopback', '::ffff:10.0.0.7', UNAUTHENTICATED],
    ['loopback', 'fe80::1%eth0', UNAUTHENTICATED],
    ['loopback', '', UNAUTHENTICATED],
    ['always', '10.0.0.7', ANONYMOUS],
    ['never', '127.0.0.1', UNAUTHENTICATED],
  ] as const)('is, with anonymous: %s, from %s: %o', async (anonymous, address, expected) => {
    expect(await identify(authenticator({ anonymous }), '', address)).toBe(expected);
  });
});

describe('A bearer token', () => {
  test('is found by its digest, in any spelling of the scheme, and shares one identity', async () => {
    const by = authenticator();
    const found = await identify(by, 'Bearer open-sesame');
    expect(found).toEqual({ name: 'robot', roles: ['machines'], how: 'token' });
    expect(Object.isFrozen(found)).toBe(true);
    for (const spelled of ['bearer open-sesame', 'BEARER   open-sesame'])
      expect(await identify(by, spelled)).toBe(found);
  });

  test.each([
    'Bearer',
    'Bearer ',
    'Bearer wrong',
    'Bearer open-sesame more',
    'Bearer open-sesame, Bearer open-sesame',
    `Bearer ${'x'.repeat(9_000)}`,
    'Bearer \u00e9',
  ])('that is not one is denied with 401 and without its text: %s', async (header) => {
    const refused = (await identify(authenticator(), header)) as KatamariError;
    expect(refused).toMatchObject({ code: 'denied', facts: { httpStatus: 401, notRun: true } });
    expect(refused.message).not.toContain('wrong');
  });

  test('that is unknown is left to the service while the mesh checks none, but a known one never is', async () => {
    const by = authenticator({ checksTokens: () => false });
    const peer = new PeerIdentity(by, '127.0.0.1');
    expect(peer.of('Bearer of-the-application')).toBe(ANONYMOUS);
    expect(peer.isConsumed).toBe(false);
    expect(peer.of('Basic dXNlcjpwYXNz')).toBe(ANONYMOUS);
    expect(peer.isConsumed).toBe(false);
    expect(peer.of('Bearer open-sesame')).toMatchObject({ name: 'robot' });
    expect(peer.isConsumed).toBe(true);
    expect(peer.of('Bearer open-sesame')).toMatchObject({ name: 'robot' });
    expect(peer.isConsumed).toBe(true);
    expect(peer.of('')).toBe(ANONYMOUS);
    expect(peer.isConsumed).toBe(false);
  });

  test('that is revoked or expires is refused on a connection that stays open', async () => {
    let known: CallerToken | undefined = { name: 'temp', roles: [], expiresAtMs: Date.now() + 2_000 };
    const by = authenticator({ lookups: [() => known] });
    const peer = new PeerIdentity(by, '127.0.0.1');
    expect(peer.of('Bearer temp')).toMatchObject({ name: 'temp' });
    await until('its end', () => attempt(peer, 'Bearer temp').includes('has expired'));
    known = { name: 'temp', roles: [] };
    expect(peer.of('Bearer temp')).toMatchObject({ name: 'temp' });
    known = undefined;
    await until('its end', () => attempt(peer, 'Bearer temp').includes('revoked'));
  });
});

/** The name or the error of a caller. */
function attempt(peer: PeerIdentity, header: string): string {
  try {
    return (peer.of(header) as CallerIdentity).name;
  } catch (error) {
    return (error as Error).message;
  }
}

describe('A signed token', () => {
  test('is verified once for all calls and connections that wait for it, then found at once', async () => {
    let verified = 0;
    const jwt = {
      verify: async () => {
        verified++;
        await new Promise((resolve) => setImmediate(resolve));
        return { name: 'carol', roles: ['a'], expiresAtMs: Date.now() + 60_000 };
      },
    };
    const by = authenticator({ jwt });
    const found = await Promise.all(Array.from({ length: 100 }, () => identify(by, `Bearer ${SIGNED}`)));
    expect(new Set(found).size).toBe(1);
    expect(verified).toBe(1);
    const again = new PeerIdentity(by, '127.0.0.1').of(`Bearer ${SIGNED}`);
    expect(again).toBe(found[0]);
  });

  test('is not used after its end, also from the cache', async () => {
    let verified = 0;
    const jwt = {
      verify: async () => {
        if (++verified > 1) throw new Error('it has expired');
        return { name: 'carol', roles: [], expiresAtMs: Date.now() + 30 };
      },
    };
    const by = authenticator({ jwt });
    const peer = new PeerIdentity(by, '127.0.0.1');
    expect(await peer.of(`Bearer ${SIGNED}`)).toMatchObject({ name: 'carol' });
    await until('its end', async () => {
      const found = await Promise.resolve(peer.of(`Bearer ${SIGNED}`)).catch((error: Error) => error);
      return found instanceof Error && found.message.includes('it has expired');
    });
  });

  test('that cannot be verified now is refused as overloaded, not as wrong', async () => {
    const jwt = { verify: () => Promise.reject(new KatamariError('overloaded', 'no keys', { retryAfterMs: 1 })) };
    expect(await identify(authenticator({ jwt }), `Bearer ${SIGNED}`)).toMatchObject({ code: 'overloaded' });
  });
});
