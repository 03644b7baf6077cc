// What a router counts of the calls that the weights of a route lead to versions, and how the counts of many processes
// become one.

import { describe, expect, test } from 'vitest';
import { encodeStruct, parseIdl } from '../../../core/idl/mod.ts';
import { KatamariError, type ErrorCode } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT, NO_REPLY_CONTEXT, type Call, type Reply } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import {
  changedRoute,
  mergeVersionReports,
  Router,
  sumOfMethods,
  VersionReports,
  type Offer,
  type Route,
  type VersionCount,
} from '../../../services/mesh/mod.ts';
import { thriftVersionReport, versionReportOfThrift } from '../../../services/mesh/version-count.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const text = `exception Missing { 1: string what }
  service Shop {
    i32 price(1: string item) throws (1: Missing missing)
    void note()
  }`;
const face = parseIdl({ main: 'shop.thrift', files: { 'shop.thrift': text } }).services.get('Shop') as Interface;
const { result } = face.methods.get('price') as Method;

/** How a copy ends a call, and how long it takes. */
type Ending = { readonly reply: Reply } | { readonly code: ErrorCode };

const answered = (fields: Readonly<Record<string, unknown>>): Ending => ({
  reply: { isException: false, body: encodeStruct(result, fields), context: { ...NO_REPLY_CONTEXT, queueUs: 4_000 } },
});

function start(route: Route) {
  const clock = new ManualClock();
  const router = new Router({ clock });
  const setRoute = (next: Route): void => router.setRoutes(new Map([['Shop', next]]));
  const state: { ending: Ending; tookMs: number } = { ending: answered({ success: 1 }), tookMs: 0 };
  const offer = (version: string): Offer => ({
    id: `Shop@${version}`,
    details: { service: 'Shop', version, roles: [], tags: [], more: {} },
    interface: face,
    manager: 'one',
    isReachable: true,
    free: 1,
    alive: 1,
    queued: 0,
    send: (_, sink) => {
      const { ending, tookMs } = state;
      clock.advance(tookMs);
      if ('reply' in ending) sink.reply(ending.reply);
      else sink.fail(new KatamariError(ending.code, 'as the test says'));
    },
  });
  setRoute(route);
  router.setOffers([offer('1.0.0'), offer('2.0.0')]);
  const call = async (change: Partial<Call> = {}, ending = state.ending, tookMs = 0): Promise<void> => {
    Object.assign(state, { ending, tookMs });
    const deadlineMs = clock.nowMs() + 60_000;
    const sent = createCall({ service: 'Shop', method: 'price', args: EMPTY_STRUCT, deadlineMs, ...change });
    await router.dispatch(sent).catch(() => undefined);
  };
  const counts = (): readonly VersionCount[] => router.versionReports('one', 'Shop').flatMap((one) => one.counts);
  return { router, setRoute, call, counts };
}

const EVEN: Route = { weights: { '1.0.0': 1, '2.0.0': 1 }, index: 3, splitIndex: 3 };
const ONLY: Route = { weights: { '1.0.0': 1 }, index: 3, splitIndex: 3 };

describe('A router counts', () => {
  test('how the calls of each version and method end', async () => {
    const { call, counts } = start(ONLY);
    await call({}, answered({ success: 1 }), 10);
    await call({}, answered({ missing: { what: 'it' } }), 20);
    await call({ method: 'note' }, { reply: { isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT } });
    const undeclared = { isException: true, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT };
    await call({}, { reply: undeclared });
    for (const code of ['resource_failed', 'timeout', 'too_large', 'cancelled'] as const) await call({}, { code }, 40);
    const none = { exceptions: 0, failures: 0, timeouts: 0, refusals: 0, cancelled: 0 };
    expect(counts()).toMatchObject([
      { method: 'price', version: '1.0.0', splitIndex: 3, calls: 7, exceptions: 1, failures: 2, timeouts: 1 },
      { ...none, method: 'note', version: '1.0.0', calls: 1 },
    ]);
    expect(counts()[0]).toMatchObject({ refusals: 1, cancelled: 1 });
    // Three answers and the timeout. A failure or a refusal may be quick without being good.
    expect(counts()[0]?.durations.count).toBe(4);
    expect(counts()[0]?.durations.quantileMs(1)).toBeCloseTo(40, 0);
    expect(counts()[0]?.queueing.quantileMs(0.5)).toBeCloseTo(4, 0);
  });

  test('no call whose caller asks for a version, or that a rule leads', async () => {
    const { call, counts } = start({ ...EVEN, rules: [{ name: 'ada', to: '2.0.0', keys: ['ada'] }] });
    await call({ version: '1.0.0' });
    await call({ version: '2.0.0' });
    await call({ key: 'ada' });
    expect(counts()).toEqual([]);
    // A faceplate that has asked for the choice of the weights sends the version, and says so.
    await call({ version: '1.0.0', rule: '' });
    expect(counts()).toMatchObject([{ version: '1.0.0', calls: 1 }]);
  });

  test('nothing of a service without a route', async () => {
    const { call, counts, router } = start({ weights: {} });
    await call();
    expect(counts()).toEqual([]);
    expect(router.activeVersions).toBeUndefined();
  });

  test('anew when the split changes, and only then', async () => {
    const { call, counts, setRoute } = start(EVEN);
    await call();
    await call();
    const mirrored = changedRoute(EVEN, { ...EVEN, mirror: { to: '2.0.0' } }, { index: 4, by: 'ada', atMs: 1 });
    expect(mirrored).toMatchObject({ index: 4, splitIndex: 3 });
    setRoute(mirrored);
    expect(counts()).toHaveLength(2);
    const shifted = changedRoute(mirrored, { weights: { '1.0.0': 9, '2.0.0': 1 } }, { index: 5, by: 'ada', atMs: 1 });
    expect(shifted).toMatchObject({ index: 5, splitIndex: 5 });
    setRoute(shifted);
    expect(counts()).toEqual([]);
    await call();
    expect(counts()).toMatchObject([{ splitIndex: 5, calls: 1 }]);
  });
});

describe('The counts of many processes', () => {
  test('are added up, the newest of each process once, and travel between processes', async () => {
    const [one, other] = [start(ONLY), start(ONLY)];
    for (let n = 0; n < 3; n++) await one.call({}, answered({ success: 1 }), 10);
    const early = one.router.versionReports('one', '');
    await one.call({}, answered({ success: 1 }), 1_000);
    await other.call({ method: 'note' }, { code: 'timeout' }, 1_000);
    const late = one.router.versionReports('one', '');
    const ofOther = other.router.versionReports('two', '');
    const travelled = [...late, ...early, ...ofOther].map((report) =>
      versionReportOfThrift(thriftVersionReport(report)),
    );
    const { counts, missing } = mergeVersionReports(travelled, ['three']);
    expect(missing).toEqual(['three']);
    expect(counts).toMatchObject([
      { method: 'price', calls: 4 },
      { method: 'note', calls: 1, timeouts: 1 },
    ]);
    const all = sumOfMethods(counts, { serviceName: 'Shop', version: '1.0.0', splitIndex: 3 });
    expect(all).toMatchObject({ calls: 5, timeouts: 1 });
    expect(all.durations.count).toBe(5);
    expect(all.durations.quantileMs(0.5)).toBeCloseTo(10, 0);
    expect(sumOfMethods(counts, { serviceName: 'Shop', version: '1.0.0', splitIndex: 2 }).calls).toBe(0);
  });

  test('are kept by a manager for an hour after their process has ended', async () => {
    const clock = new ManualClock();
    const { router, call } = start(ONLY);
    await call();
    const [report] = router.versionReports('gone', 'Shop');
    if (report === undefined) throw new Error('no report');
    const kept = new VersionReports({ clock, own: () => [] });
    kept.tell(report);
    kept.tell({ ...report, seq: report.seq - 1, counts: [] });
    expect(kept.read('Shop')).toEqual([report]);
    expect(kept.read('Other')).toEqual([]);
    clock.advance(3_600_000);
    expect(kept.read('')).toEqual([]);
  });
});
