// Sticky keys from an argument: a call gets the version of the key that its argument is, whoever encodes it.

import { describe, expect, test } from 'vitest';
import { encodeParams, encodeStruct, parseIdl } from '../../../core/idl/mod.ts';
import { createCall, EMPTY_STRUCT, NO_REPLY_CONTEXT, type Call, type PoolQuery } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { Router, type Offer, type Route } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const OLD = faceOf(
  'struct User { 1: i64 id } service Shop { i32 price(1: User user) i32 stock(1: i32 user) i32 all() }',
);
/** The same arguments at other places, and one more. */
const NEW = faceOf('struct User { 4: i64 id } service Shop { i32 price(1: bool fast, 3: User user) i32 all() }');
const HALVES = { '1.0.0': 50, '2.0.0': 50 };
const IDS = Array.from({ length: 60 }, (_, n) => 2 ** 40 + n * 7);

function faceOf(text: string): Interface {
  return parseIdl({ main: 'shop.thrift', files: { 'shop.thrift': text } }).services.get('Shop') as Interface;
}

function methodOf(face: Interface, name = 'price'): Method {
  return face.methods.get(name) as Method;
}

function start(route: Partial<Route>, faces: Readonly<Record<string, Interface>> = { '1.0.0': OLD, '2.0.0': NEW }) {
  const clock = new ManualClock();
  const router = new Router({ clock, random: () => 0 });
  router.setOffers(Object.entries(faces).map(([version, face]) => offerOf(version, face)));
  const setRoute = (now: Partial<Route>): void => router.setRoutes(new Map([['Shop', { weights: HALVES, ...now }]]));
  setRoute(route);
  const send = async (change: Partial<Call>): Promise<string> => {
    const deadlineMs = clock.nowMs() + 1_000;
    const call = createCall({ service: 'Shop', method: 'price', args: EMPTY_STRUCT, deadlineMs, ...change });
    const { context } = await router.dispatch(call);
    return context.rule === undefined ? context.version : `${context.version} ${context.rule}`;
  };
  /** The version that a key gets. */
  const ofKey = (key: string): string =>
    router.explain({ service: 'Shop', method: 'price', version: '', roles: [], tags: [], details: {}, key })?.version ??
    '';
  return { router, send, ofKey, setRoute };
}

function offerOf(version: string, face: Interface): Offer {
  return {
    id: `Shop@${version}`,
    details: { service: 'Shop', version, roles: [], tags: [], more: {} },
    interface: face,
    manager: 'one',
    isReachable: true,
    free: 2,
    alive: 2,
    queued: 0,
    send: (_, sink) =>
      sink.reply({ isException: false, body: EMPTY_STRUCT, context: { ...NO_REPLY_CONTEXT, version } }),
  };
}

function oldArgs(id: number): Uint8Array {
  return encodeStruct(methodOf(OLD).args, { user: { id } });
}

function newArgs(id: number): Uint8Array {
  return encodeStruct(methodOf(NEW).args, { fast: true, user: { id } });
}

/** What a faceplate asks that encodes JSON. */
function query(params: unknown, change: Partial<PoolQuery> = {}): PoolQuery & { readonly encoded: string[] } {
  const encoded: string[] = [];
  return {
    service: 'Shop',
    method: 'price',
    version: '',
    roles: [],
    tags: [],
    details: {},
    key: '',
    encoded,
    encoder: {
      encode: (method, pool) => {
        encoded.push(pool.id);
        return encodeParams(method, params);
      },
    },
    ...change,
  };
}

describe('A route with a sticky argument', () => {
  test('gives a call the version of the key that the argument is, by the interface of either version', async () => {
    const { send, ofKey } = start({ sticky: 'args.user.id' });
    const versions = new Set<string>();
    for (const id of IDS) {
      const version = ofKey(String(id));
      versions.add(version);
      for (let again = 0; again < 2; again++) {
        expect(await send({ args: oldArgs(id) })).toBe(version);
        expect(await send({ args: newArgs(id) })).toBe(version);
      }
    }
    expect([...versions].sort()).toEqual(['1.0.0', '2.0.0']);
  });

  test('gives a faceplate that encodes arguments the same version, and their bytes if it can use them', () => {
    const { router, ofKey } = start({ sticky: 'args.user.id' });
    for (const id of IDS) {
      const asked = query({ user: { id } });
      const { details, args } = router.choose(asked);
      expect(details.version).toBe(ofKey(String(id)));
      expect(asked.encoded).toEqual(['Shop@1.0.0']);
      expect(args).toEqual(details.version === '1.0.0' ? oldArgs(id) : undefined);
    }
  });

  test('asks the next version when the first one does not take the arguments', () => {
    const { router, ofKey } = start({ sticky: 'args.user.id' });
    const [id = 0] = IDS.filter((one) => ofKey(String(one)) === '2.0.0');
    const asked = query({ fast: true, user: { id } });
    const { details, args } = router.choose(asked);
    expect([details.version, asked.encoded]).toEqual(['2.0.0', ['Shop@1.0.0', 'Shop@2.0.0']]);
    expect(args).toEqual(newArgs(id));
    // Nobody takes these: the version that the call gets says why.
    expect(router.choose(query({ nothing: 1 })).args).toBe(undefined);
  });

  test('leaves a key that the caller brings, and a version that it asks for', async () => {
    const { router, send, ofKey } = start({ sticky: 'args.user.id' });
    const [id = 0] = IDS.filter((one) => ofKey(String(one)) === '2.0.0');
    const other = IDS.map((_, n) => `key-${n}`).find((key) => ofKey(key) === '1.0.0') as string;
    expect(await send({ args: oldArgs(id) })).toBe('2.0.0');
    expect(await send({ args: oldArgs(id), key: other })).toBe('1.0.0');
    expect(await send({ args: oldArgs(id), version: '1.0.0' })).toBe('1.0.0');
    const asked = query({ user: { id } }, { key: other });
    expect(router.choose(asked).details.version).toBe('1.0.0');
    expect(asked.encoded).toEqual([]);
  });

  test('splits calls of methods without it, and calls that leave it out, as calls without a key', async () => {
    const { router, send } = start({ sticky: 'args.user.id' });
    const split = async (change: Partial<Call>): Promise<string> => {
      const got = [await send(change), await send(change), await send(change), await send(change)];
      return got.sort().join(' ');
    };
    const turns = '1.0.0 1.0.0 2.0.0 2.0.0';
    expect(await split({ method: 'all' })).toBe(turns);
    expect(await split({ args: EMPTY_STRUCT })).toBe(turns);
    const asked = query({}, { method: 'all' });
    router.choose(asked);
    expect(asked.encoded).toEqual([]);
  });

  test('leads rules by keys and by share, and answers say so', async () => {
    const rules = [
      { name: 'vip', to: '2.0.0', keys: ['5', '6'] },
      { name: 'all', to: '1.0.0', share: 100 },
    ];
    const { send } = start({ sticky: 'args.user.id', rules });
    expect(await send({ args: oldArgs(5) })).toBe('2.0.0 vip');
    expect(await send({ args: newArgs(6) })).toBe('2.0.0 vip');
    expect(await send({ args: newArgs(7) })).toBe('1.0.0 all');
    expect(await send({ args: newArgs(7), key: '6' })).toBe('2.0.0 vip');
  });

  test('moves only keys to the version that gains, and none without it', async () => {
    const { send, setRoute } = start({ sticky: 'args.user.id' });
    const all = (): Promise<string[]> => Promise.all(IDS.map((id) => send({ args: oldArgs(id) })));
    const before = await all();
    setRoute({ sticky: 'args.user.id', weights: { '1.0.0': 25, '2.0.0': 75 } });
    const after = await all();
    for (const [at, version] of before.entries()) if (version === '2.0.0') expect(after[at]).toBe('2.0.0');
    expect(after.filter((one) => one === '2.0.0').length).toBeGreaterThan(
      before.filter((one) => one === '2.0.0').length,
    );
    expect(await all()).toEqual(after);
  });

  test('is explained: which argument it is, and that a method does not have it', () => {
    const { router } = start({ sticky: 'args.user.id' });
    const why = (method: string, key = ''): string => router.explain({ ...query({}), method, key })?.why ?? '';
    const turns = 'so versions take turns: 50 % to 1.0.0, 50 % to 2.0.0';
    expect(why('price')).toBe(`it has no key (its key is args.user.id: give one with --key), ${turns}`);
    expect(why('')).toBe(`it has no key (its key is args.user.id: give one with --key), ${turns}`);
    expect(why('stock')).toBe(`it has no key (args.user of stock is i32, expected a struct), ${turns}`);
    expect(why('all')).toBe(`it has no key (all has no argument "user"), ${turns}`);
    expect(why('price', 'ada')).toBe('the weights choose it for this key');
    expect(why('all', 'ada')).toBe(
      'the weights choose it for this key; it must bring the key, because all has no argument "user"',
    );
  });

  test('looks at a large key up to its bound', async () => {
    const face = faceOf('service Shop { i32 price(1: string user) }');
    const { send, ofKey } = start({ sticky: 'args.user' }, { '1.0.0': face, '2.0.0': face });
    const args = (user: string): Uint8Array => encodeStruct(methodOf(face).args, { user });
    const large = 'x'.repeat(2 ** 20);
    expect(await send({ args: args(large) })).toBe(ofKey('x'.repeat(1_000)));
    expect(await send({ args: args(`${large}y`) })).toBe(ofKey('x'.repeat(1_000)));
  });
});
