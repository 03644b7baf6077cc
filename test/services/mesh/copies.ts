// Scripted chassis behind a router, for tests of calls with several copies.

import { encodeStruct, parseIdl } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT, NO_REPLY_CONTEXT, type Call, type CallSink } from '../../../core/rpc/mod.ts';
import { writeApplicationException, type Interface, type Method } from '../../../core/thrift/mod.ts';
import { Router, type Offer, type Route } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const text = `
exception Unknown { 1: string name }
struct Found { 1: string id, 2: double score, 3: optional string secret (katamari.secret = "true") }
service Shop {
  list<Found> search(1: string words) throws (1: Unknown unknown) (katamari.readonly = "true")
  i32 count() (katamari.idempotent = "true", katamari.hedge = "p90")
  set<string> vote() (katamari.readonly = "true", katamari.majority = "2 of 3")
  i32 sell()
}`;
export const SHOP = parseIdl({ main: 'shop.thrift', files: { 'shop.thrift': text } }).services.get('Shop') as Interface;

/** One copy that an offer got, until the test ends it. */
export interface GotCopy {
  readonly offer: string;
  readonly call: Call;
  readonly sink: CallSink;
}

export type ScriptedManager = Partial<Pick<Offer, 'alive' | 'isReachable' | 'free' | 'queued'>> & {
  readonly manager: string;
  readonly version?: string;
};

export function resultOf(method: string, value: unknown, field = 'success'): Uint8Array {
  return encodeStruct((SHOP.methods.get(method) as Method).result, { [field]: value });
}

export interface ScriptedShop {
  readonly clock: ManualClock;
  readonly router: Router;
  /** Copies under way, the oldest first. */
  readonly got: readonly GotCopy[];
  readonly offers: readonly Offer[];
  /** Makes a call; its end is a text. */
  readonly call: (method: string, change?: Partial<Call>) => { readonly end: string };
  /** End the oldest copy of a manager. */
  readonly answer: (manager: string, value: unknown, field?: string) => void;
  readonly refuse: (manager: string, code: KatamariError['code'], notRun?: boolean) => void;
  readonly crash: (manager: string) => void;
  readonly throwUndeclared: (manager: string) => void;
  /** The managers of the copies under way. */
  readonly holders: () => readonly string[];
  readonly disagreements: readonly string[];
}

/** @param options further options of the router */
export function startShop(
  managers: readonly ScriptedManager[],
  route: Partial<Route> | undefined,
  options: Partial<ConstructorParameters<typeof Router>[0]> = {},
): ScriptedShop {
  const clock = new ManualClock();
  const disagreements: string[] = [];
  const onDisagreement = (method: string, why: string): void => void disagreements.push(`${method} ${why}`);
  const router = new Router({ clock, onDisagreement, random: () => 0, ...options });
  if (route !== undefined) router.setRoutes(new Map([['Shop', { weights: {}, ...route }]]));
  const got: GotCopy[] = [];
  const offers = managers.map(({ manager, version = '1.0.0', ...load }) => ({
    id: `Shop@${version}`,
    details: { service: 'Shop', version, roles: [], tags: [], more: {} },
    interface: SHOP,
    manager,
    isReachable: true,
    alive: 1,
    queued: 0,
    free: load.alive ?? 1,
    ...load,
    send: (call: Call, sink: CallSink) => {
      const copy = { offer: version === '1.0.0' ? manager : `${manager} ${version}`, call, sink };
      got.push(copy);
      call.signal?.addEventListener('abort', () => {
        if (!got.includes(copy)) return;
        got.splice(got.indexOf(copy), 1);
        sink.fail(new KatamariError('cancelled', 'cancelled by the caller'));
      });
    },
  }));
  router.setOffers(offers);
  const call = (method: string, change: Partial<Call> = {}): { end: string } => {
    const deadlineMs = clock.nowMs() + 10_000;
    const asked = { end: 'pending' };
    router.send(createCall({ service: 'Shop', method, args: EMPTY_STRUCT, deadlineMs, ...change }), {
      reply: ({ body, isException, context: { resource } }) => {
        asked.end = `${resource} ${isException ? 'exception' : Buffer.from(body).toString('hex')}`;
      },
      fail: ({ code, message }) => (asked.end = `${code}: ${message}`),
    });
    return asked;
  };
  const take = (manager: string): GotCopy => {
    const at = got.findIndex(({ offer }) => offer === manager);
    if (at === -1) throw new Error(`${manager} has no call, these have: ${got.map(({ offer }) => offer).join(', ')}`);
    return got.splice(at, 1)[0] as GotCopy;
  };
  const answer = (manager: string, value: unknown, field?: string): void => {
    const { call: asked, sink } = take(manager);
    const context = { ...NO_REPLY_CONTEXT, resource: `of ${manager}` };
    sink.reply({ isException: false, body: resultOf(asked.method, value, field), context });
  };
  const refuse = (manager: string, code: KatamariError['code'], notRun = false): void => {
    take(manager).sink.fail(new KatamariError(code, `scripted ${code}`, notRun ? { notRun } : {}));
  };
  const crash = (manager: string): void =>
    take(manager).sink.fail(new KatamariError('resource_failed', 'it crashed', { isSuspect: true }));
  const throwUndeclared = (manager: string): void => {
    const body = writeApplicationException('it broke', 6);
    take(manager).sink.reply({ isException: true, body, context: NO_REPLY_CONTEXT });
  };
  const holders = (): string[] => got.map(({ offer }) => offer);
  return { clock, router, got, offers, call, answer, refuse, crash, throwUndeclared, holders, disagreements };
}
