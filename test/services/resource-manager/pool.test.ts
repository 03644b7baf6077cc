import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { parseIdl } from '../../../core/idl/mod.ts';
import { DeadlineWheel, type ReplySink } from '../../../core/link/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { dispatchOf, createCall, identityOf, type Call, type Reply } from '../../../core/rpc/mod.ts';
import { ResourcePool } from '../../../services/resource-manager/pool.ts';
import { Resource } from '../../../services/resource-manager/resource.ts';

const IDL = {
  main: 'echo.thrift',
  files: {
    'echo.thrift':
      'service Echo { string say(1: string text) string tell(1: string text) (katamari.idempotent = "true") }',
  },
};

/** A fake link: the test decides when and how each call ends. */
class ManualLink {
  isOpen = true;
  readonly sent: { id: number; call: Call; sink: ReplySink }[] = [];
  #lastId = 0;

  send(call: Call, sink: ReplySink): number {
    this.sent.push({ id: ++this.#lastId, call, sink });
    return this.#lastId;
  }

  cancel(id: number): boolean {
    const place = this.sent.findIndex((one) => one.id === id);
    if (place !== -1) this.sent.splice(place, 1);
    return place !== -1;
  }

  /** The texts of its calls, oldest first. */
  texts(): string[] {
    return this.sent.map(({ call }) => Buffer.from(call.args).toString());
  }

  /** Answers the oldest call. */
  answer(): Call {
    const { call, sink } = this.sent.shift() as { id: number; call: Call; sink: ReplySink };
    sink.reply({ isException: false, body: call.args, context: EMPTY_CONTEXT }, undefined);
    return call;
  }

  close(why = 'closed'): void {
    this.isOpen = false;
    for (const { sink } of this.sent.splice(0)) sink.fail(new KatamariError('resource_failed', why));
  }
}

const EMPTY_CONTEXT = { version: '', queueUs: 0, serviceUs: 0, freeNow: -1, queuedNow: -1, resource: '' };

interface BenchOptions {
  readonly queueMax?: number;
  readonly resources?: number;
  readonly places?: number;
  readonly ahead?: number;
  readonly onAliveChanged?: () => void;
}

function bench(options: BenchOptions = {}) {
  const clock = new ManualClock();
  const echo = parseIdl(IDL).services.get('Echo');
  if (echo === undefined) throw new Error('no service Echo');
  const pool = new ResourcePool({
    id: 'Echo@1.0.0',
    details: { service: 'Echo', version: '1.0.0', roles: [], tags: [], more: {} },
    interface: echo,
    queueMax: options.queueMax ?? 64,
    clock,
    deadlines: new DeadlineWheel(clock),
    ...(options.onAliveChanged === undefined ? {} : { onAliveChanged: options.onAliveChanged }),
  });
  const hung: string[] = [];
  const newResource = (name: string): { resource: Resource; link: ManualLink } => {
    const link = new ManualLink();
    const resource = new Resource({
      name,
      link,
      concurrency: options.places ?? 1,
      ahead: options.ahead ?? 0,
      hangGraceMs: 1000,
      clock,
      onHung: (why) => hung.push(`${name}: ${why}`),
      isLeaving: () => false,
      onRetire: () => undefined,
      onServed: () => undefined,
      exitReason: () => 'was ended by SIGKILL',
    });
    return { resource, link };
  };
  const members = Array.from({ length: options.resources ?? 1 }, (_, n) => newResource(`Echo@1.0.0/${n + 1}`));
  for (const { resource } of members) pool.add(resource);
  const call = (text: string, change: Partial<Call> = {}): Call =>
    createCall({
      service: 'Echo',
      method: 'say',
      args: Buffer.from(text),
      deadlineMs: clock.nowMs() + 10_000,
      ...change,
    });
  return { clock, pool, members, hung, call, newResource };
}

/** The outcome of a dispatched call, as text to compare. */
function ending(work: Promise<Reply>): { text: string } {
  const end = { text: 'pending' };
  work.then(
    (reply) => (end.text = `ok ${Buffer.from(reply.body).toString()}`),
    (error: KatamariError) =>
      (end.text = `${error.code}${error.facts.stage === undefined ? '' : ` ${error.facts.stage}`}`),
  );
  return end;
}

/** Lets promise callbacks run. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function sums({ stats }: ResourcePool): Record<string, number> {
  const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = stats;
  return { accepted, replied, failed, refused, timed_out, cancelled, inFlight };
}

describe('ResourcePool.send() with several callers', () => {
  const noisy = { caller: 'thrift 10.0.0.1:50000' };
  const from = (port: number): Partial<Call> => ({ caller: `thrift 10.0.0.2:${port}` });

  test('lets callers take turns, whatever protocol or connection they use', async () => {
    const { pool, members, call } = bench({ queueMax: 64 });
    const [{ link }] = members as unknown as [{ link: ManualLink }];
    const dispatch = dispatchOf(pool.send);
    void dispatch(call('running', noisy));
    for (let n = 1; n <= 20; n++) void dispatch(call(`n${n}`, { caller: `json-rpc 10.0.0.1` }));
    for (let n = 1; n <= 3; n++) void dispatch(call(`q${n}`, from(n)));
    const served: string[] = [];
    for (let n = 0; n < 8; n++) served.push(Buffer.from(link.answer().args).toString());
    await turn();
    expect(served).toEqual(['running', 'n1', 'q1', 'n2', 'q2', 'n3', 'q3', 'n4']);
  });

  test('knows a caller by its proved name, not by its address', async () => {
    const { pool, members, call } = bench({ queueMax: 64 });
    const [{ link }] = members as unknown as [{ link: ManualLink }];
    const dispatch = dispatchOf(pool.send);
    const [alice, bob] = [identityOf('alice', 'token'), identityOf('bob', 'mtls')];
    void dispatch(call('running'));
    for (let n = 1; n <= 5; n++) void dispatch(call(`a${n}`, { identity: alice, caller: `thrift 10.0.0.${n}:1` }));
    void dispatch(call('b1', { identity: bob, caller: 'thrift 10.0.0.1:1' }));
    const served: string[] = [];
    for (let n = 0; n < 4; n++) served.push(Buffer.from(link.answer().args).toString());
    await turn();
    expect(served).toEqual(['running', 'a1', 'b1', 'a2']);
  });

  test('gives a caller a place in a queue that another one has filled, at the cost of its newest call', async () => {
    const { pool, call } = bench({ queueMax: 4 });
    const dispatch = dispatchOf(pool.send);
    void dispatch(call('running', noisy));
    const ends = [1, 2, 3, 4].map((n) => ending(dispatch(call(`n${n}`, noisy))));
    const refused = ending(dispatch(call('n5', noisy)));
    const quiet = ending(dispatch(call('q1', from(1))));
    await turn();
    expect([refused.text, quiet.text]).toEqual(['overloaded', 'pending']);
    expect(ends.map(({ text }) => text)).toEqual(['pending', 'pending', 'pending', 'overloaded']);
    expect(pool.queued).toBe(4);
    const { accepted, refused: count, inFlight } = sums(pool);
    expect([accepted, count, inFlight]).toEqual([7, 2, 5]);
  });

  test('does not refuse a quiet caller because of the wait of a noisy one', async () => {
    const { clock, pool, members, call } = bench({ queueMax: 1_000 });
    const [{ link }] = members as unknown as [{ link: ManualLink }];
    const dispatch = dispatchOf(pool.send);
    // Enough calls to know that one takes 100 ms.
    for (let n = 0; n < 40; n++) {
      void dispatch(call('x'));
      clock.advance(100);
      link.answer();
    }
    const deadline = (): Partial<Call> => ({ deadlineMs: clock.nowMs() + 1_000 });
    void dispatch(call('running', { ...noisy, ...deadline() }));
    for (let n = 0; n < 8; n++) void dispatch(call('n', { ...noisy, ...deadline() })).catch(() => undefined);
    const late = ending(dispatch(call('n', { ...noisy, ...deadline() })));
    for (let n = 0; n < 4; n++) void dispatch(call('n', { ...noisy, deadlineMs: clock.nowMs() + 60_000 }));
    const quiet = ending(dispatch(call('q', { ...from(1), ...deadline() })));
    const last = ending(dispatch(call('n', { ...noisy, ...deadline() })));
    await turn();
    expect([late.text, quiet.text, last.text]).toEqual(['pending', 'pending', 'overloaded']);
  });
});

describe('ResourcePool.send()', () => {
  test('gives a resource one call at a time, and a freed resource to the longest waiter', async () => {
    const { pool, members, call } = bench();
    const [{ link }] = members as unknown as [{ link: ManualLink }];
    const ends = ['a', 'b', 'c'].map((text) => ending(dispatchOf(pool.send)(call(text))));
    expect(link.sent.length).toBe(1);
    expect(pool.queued).toBe(2);
    for (const text of ['a', 'b', 'c']) expect(Buffer.from(link.answer().args).toString()).toBe(text);
    await turn();
    expect(ends.map(({ text }) => text)).toEqual(['ok a', 'ok b', 'ok c']);
    expect(sums(pool)).toEqual({
      accepted: 3,
      replied: 3,
      failed: 0,
      refused: 0,
      timed_out: 0,
      cancelled: 0,
      inFlight: 0,
    });
  });

  test('reports with each answer how free the pool is after the freed resource has taken its next call', async () => {
    const { pool, members, call } = bench({ resources: 2 });
    const links = members.map(({ link }) => link);
    const replies = ['a', 'b', 'c'].map((text) => dispatchOf(pool.send)(call(text)));
    for (const link of [...links].reverse()) link.answer();
    const told = async (nth: number): Promise<number[]> => {
      const { context } = (await replies[nth]) as Reply;
      return [context.freeNow, context.queuedNow];
    };
    // The first answer frees a resource for the third call; the second answer leaves a resource idle.
    expect([await told(0), await told(1)]).toEqual([
      [0, 0],
      [1, 0],
    ]);
    for (const link of links) if (link.sent.length > 0) link.answer();
    expect(await told(2)).toEqual([2, 0]);
  });

  test('reports when a resource joins or leaves, and refuses all calls once it is closed', async () => {
    let told = 0;
    const { pool, members, call, newResource } = bench({ onAliveChanged: () => told++ });
    expect(told).toBe(1);
    const { resource } = newResource('Echo@1.0.0/2');
    pool.add(resource);
    pool.remove(resource);
    pool.remove(resource);
    expect(told).toBe(3);
    const running = ending(dispatchOf(pool.send)(call('running')));
    const waiting = ending(dispatchOf(pool.send)(call('waiting')));
    const moving = ending(dispatchOf(pool.send)(call('moving')));
    const other = bench();
    pool.close(new KatamariError('draining', 'gone', { notRun: true }), ({ args }) =>
      Buffer.from(args).toString() === 'moving' ? other.pool.send : undefined,
    );
    const late = ending(dispatchOf(pool.send)(call('late')));
    for (const { link } of [...members, ...other.members]) link.answer();
    await turn();
    expect([running, waiting, moving, late].map(({ text }) => text)).toEqual([
      'ok running',
      'draining',
      'ok moving',
      'draining',
    ]);
    const { accepted, replied, refused, inFlight } = sums(pool);
    expect([accepted, replied, refused, inFlight]).toEqual([4, 1, 3, 0]);
  });

  test('gives a new resource to the longest waiter', () => {
    const { pool, call, newResource } = bench({ resources: 0 });
    void dispatchOf(pool.send)(call('first'));
    void dispatchOf(pool.send)(call('second'));
    const { resource, link } = newResource('Echo@1.0.0/9');
    pool.add(resource);
    expect(link.sent.map((one) => Buffer.from(one.call.args).toString())).toEqual(['first']);
  });

  test('uses all concurrent calls of a resource', () => {
    const { pool, members, call } = bench({ places: 3 });
    for (const text of ['a', 'b', 'c', 'd']) void dispatchOf(pool.send)(call(text));
    expect(members[0]?.link.sent.length).toBe(3);
    expect(pool.queued).toBe(1);
  });

  test('answers 2 of 6 calls of 4 s on one resource within 10 s, times 4 out in the queue, and runs none of those', async () => {
    const { clock, pool, members, call } = bench();
    const [{ link }] = members as unknown as [{ link: ManualLink }];
    const ends = Array.from({ length: 6 }, (_, n) => ending(dispatchOf(pool.send)(call(`${n}`))));
    let ran = 0;
    for (let second = 0; second < 12; second++) {
      clock.advance(1000);
      if (link.sent.length > 0 && second % 4 === 3) {
        link.answer();
        ran++;
      }
      await turn();
    }
    expect(ends.map(({ text }) => text)).toEqual([
      'ok 0',
      'ok 1',
      'timeout queue',
      'timeout queue',
      'timeout queue',
      'timeout queue',
    ]);
    expect(ran).toBe(2);
    const after = ending(dispatchOf(pool.send)(call('after')));
    link.answer();
    await turn();
    expect(after.text).toBe('ok after');
    expect(sums(pool)).toMatchObject({ accepted: 7, replied: 3, timed_out: 4, inFlight: 0 });
  });

  test('refuses a call after its deadline, and never sends it', async () => {
    const { clock, pool, members, call } = bench();
    const end = ending(dispatchOf(pool.send)(call('late', { deadlineMs: clock.nowMs() })));
    await turn();
    expect(end.text).toBe('timeout queue');
    expect(members[0]?.link.sent.length).toBe(0);
  });

  test('refuses at once with retry-after when the queue is full', async () => {
    const { pool, call } = bench({ queueMax: 2 });
    for (const text of ['runs', 'waits', 'waits']) void dispatchOf(pool.send)(call(text)).catch(() => undefined);
    const refusal = await dispatchOf(pool.send)(call('too many')).catch((error: KatamariError) => error);
    expect(refusal).toMatchObject({ code: 'overloaded', facts: { notRun: true } });
    expect((refusal as KatamariError).facts.retryAfterMs).toBeGreaterThan(0);
    expect((refusal as KatamariError).message).toContain('2 calls are waiting, limit is 2');
  });

  test('refuses a doNotQueue call when nothing is free', async () => {
    const { pool, call } = bench();
    void dispatchOf(pool.send)(call('runs'));
    const end = ending(dispatchOf(pool.send)(call('now or never', { doNotQueue: true })));
    await turn();
    expect(end.text).toBe('overloaded');
    expect(pool.queued).toBe(0);
  });

  test('refuses a call whose wait would outlast its deadline, once it knows how long calls take', async () => {
    const { clock, pool, members, call } = bench();
    const [{ link }] = members as unknown as [{ link: ManualLink }];
    for (let n = 0; n < 40; n++) {
      const end = ending(dispatchOf(pool.send)(call('learn')));
      clock.advance(100);
      link.answer();
      await turn();
      expect(end.text).toBe('ok learn');
    }
    void dispatchOf(pool.send)(call('runs'));
    for (let n = 0; n < 5; n++) void dispatchOf(pool.send)(call('waits'));
    const hasty = ending(dispatchOf(pool.send)(call('hasty', { deadlineMs: clock.nowMs() + 300 })));
    const patient = ending(dispatchOf(pool.send)(call('patient', { deadlineMs: clock.nowMs() + 3000 })));
    await turn();
    expect(hasty.text).toBe('overloaded');
    expect(patient.text).toBe('pending');
  });

  test('removes a call from the queue when its caller disconnects, and never sends it', async () => {
    const { pool, members, call } = bench();
    const [{ link }] = members as unknown as [{ link: ManualLink }];
    const connection = new AbortController();
    void dispatchOf(pool.send)(call('runs'));
    const gone = ending(dispatchOf(pool.send)(call('gone', { signal: connection.signal })));
    const stays = ending(dispatchOf(pool.send)(call('stays')));
    connection.abort();
    await turn();
    expect(gone.text).toBe('cancelled');
    link.answer();
    expect(link.sent.map((one) => Buffer.from(one.call.args).toString())).toEqual(['stays']);
    link.answer();
    await turn();
    expect(stays.text).toBe('ok stays');
    expect(sums(pool)).toMatchObject({ accepted: 3, replied: 2, cancelled: 1, inFlight: 0 });
  });

  test('does not resend a call that a draining chassis did not run, once its caller has disconnected', async () => {
    for (const goes of ['before', 'after', 'never']) {
      const { pool, members, call } = bench({ resources: 2 });
      const gone = new AbortController();
      const [one, two] = members as [(typeof members)[0], (typeof members)[0]];
      const end = ending(dispatchOf(pool.send)(call('a', { signal: gone.signal })));
      const used = two.link.sent.length > 0 ? two : one;
      const other = used === two ? one : two;
      pool.remove(other.resource);
      if (goes === 'before') gone.abort();
      const sink = used.link.sent.shift()?.sink as ReplySink;
      sink.fail(new KatamariError('draining', 'leaves', { notRun: true }));
      if (goes === 'after') gone.abort();
      pool.remove(used.resource);
      const { resource, link } = bench({ resources: 0 }).newResource('Echo@1.0.0/9');
      pool.add(resource);
      await turn();
      expect([goes, end.text, link.sent.length]).toEqual(
        goes === 'never' ? [goes, 'pending', 1] : [goes, 'cancelled', 0],
      );
    }
  });

  test('times a call out in service, keeps its resource busy, and kills the chassis after the grace time', async () => {
    const { clock, pool, members, call, hung } = bench();
    const end = ending(dispatchOf(pool.send)(call('hangs')));
    clock.advance(10_020);
    await turn();
    expect(end.text).toBe('timeout service');
    expect(pool.free).toBe(0);
    expect(hung).toEqual([]);
    clock.advance(1000);
    expect(hung).toEqual(['Echo@1.0.0/1: say outlived its deadline by 1000 ms']);
    members[0]?.resource.close();
    expect(sums(pool)).toMatchObject({ accepted: 1, timed_out: 1, inFlight: 0 });
  });

  test('frees the resource of a call that answers within the grace time, and drops the answer', async () => {
    const { clock, pool, members, call, hung } = bench();
    const end = ending(dispatchOf(pool.send)(call('slow')));
    clock.advance(10_500);
    members[0]?.link.answer();
    clock.advance(5000);
    await turn();
    expect(end.text).toBe('timeout service');
    expect(pool.free).toBe(1);
    expect(hung).toEqual([]);
  });

  test('fails only the calls inside a chassis that dies', async () => {
    const { pool, members, call } = bench({ resources: 2 });
    const ends = ['a', 'b', 'c'].map((text) => ending(dispatchOf(pool.send)(call(text))));
    const [other, dying] = members as unknown as [{ link: ManualLink }, { resource: Resource; link: ManualLink }];
    pool.remove(dying.resource);
    dying.link.close('closed the connection');
    other.link.answer();
    other.link.answer();
    await turn();
    expect(ends.map(({ text }) => text)).toEqual(['resource_failed', 'ok b', 'ok c']);
  });

  test('gives a call to another resource when the link is closed before anything was written', async () => {
    const { pool, members, call } = bench({ resources: 2 });
    const [living, dead] = members as unknown as [{ link: ManualLink }, { link: ManualLink }];
    dead.link.isOpen = false;
    const end = ending(dispatchOf(pool.send)(call('handed on')));
    living.link.answer();
    await turn();
    expect(end.text).toBe('ok handed on');
    expect(pool.alive).toBe(1);
  });

  test('refuses waiting calls when it is closed', async () => {
    const { pool, call } = bench({ resources: 0 });
    const end = ending(dispatchOf(pool.send)(call('waits')));
    pool.close(new KatamariError('draining', 'The mesh is stopping', { notRun: true }));
    await turn();
    expect(end.text).toBe('draining');
  });

  test('settles every call once and keeps its counters consistent in any order of events', async () => {
    const seed = Number(process.env['KATAMARI_SEED'] ?? 20_261_122);
    const random = mulberry(seed);
    for (let round = 0; round < 75; round++) {
      // Every third round sends calls ahead.
      const ahead = round % 3 === 2 ? 4 : 0;
      const places = round % 3 === 1 ? 2 : 1;
      const { clock, pool, members, call, newResource } = bench({ resources: 3, queueMax: 8, places, ahead });
      if (ahead > 0) makeQuick({ pool, members, call });
      const before = pool.stats.accepted;
      const settled = new Map<number, number>();
      const connections = Array.from({ length: 4 }, () => new AbortController());
      let calls = 0;
      for (let step = 0; step < 200; step++) {
        const dice = random();
        const member = members[Math.floor(random() * members.length)];
        if (dice < 0.5) {
          const id = calls++;
          const signal = connections[Math.floor(random() * 4)]?.signal;
          const work = dispatchOf(pool.send)(
            call(`${id}`, {
              method: ahead > 0 && random() < 0.9 ? 'tell' : 'say',
              deadlineMs: clock.nowMs() + random() * 5000,
              doNotQueue: random() < 0.1,
              signal,
            }),
          );
          work.then(
            () => settled.set(id, (settled.get(id) ?? 0) + 1),
            () => settled.set(id, (settled.get(id) ?? 0) + 1),
          );
        } else if (dice < 0.8) {
          if (member !== undefined && member.link.sent.length > 0) member.link.answer();
        } else if (dice < 0.9) {
          clock.advance(random() * (random() < 0.7 ? 1 : 2000));
        } else if (dice < 0.95 && member !== undefined) {
          pool.remove(member.resource);
          member.link.close();
          members.splice(members.indexOf(member), 1);
          const fresh = newResource(`Echo@1.0.0/${step}`);
          members.push(fresh);
          pool.add(fresh.resource);
        } else if (dice < 0.96) {
          connections[Math.floor(random() * 4)]?.abort();
        }
        expect(members.every(({ link }) => link.sent.length <= places + ahead)).toBe(true);
        expect(sums(pool)['inFlight']).toBeGreaterThanOrEqual(0);
      }
      clock.advance(6000);
      await turn();
      expect(
        [settled.size, [...settled.values()].every((times) => times === 1)],
        `seed ${seed}, round ${round}`,
      ).toEqual([calls, true]);
      expect(sums(pool), `seed ${seed}, round ${round}`).toMatchObject({
        accepted: before + calls,
        inFlight: 0,
      });
      expect(pool.queued).toBe(0);
    }
  });
});

describe('Calls sent ahead', () => {
  const quick = (options: BenchOptions = {}) => {
    const made = bench({ ahead: 2, ...options });
    const [first] = made.members as [{ resource: Resource; link: ManualLink }];
    makeQuick(made);
    const tell = (text: string, change: Partial<Call> = {}) =>
      ending(dispatchOf(made.pool.send)(made.call(text, { method: 'tell', ...change })));
    return { ...made, ...first, tell };
  };

  test('are idempotent and were fast recently, as many as the chassis takes; the others wait in the queue', async () => {
    const { pool, link, tell, call } = quick();
    const ends = ['a', 'b', 'c', 'd'].map((text) => tell(text));
    expect([link.texts(), pool.queued]).toEqual([['a', 'b', 'c'], 1]);
    link.answer();
    expect([link.texts(), pool.queued]).toEqual([['b', 'c', 'd'], 0]);
    for (let i = 0; i < 3; i++) link.answer();
    await turn();
    expect(ends.map(({ text }) => text)).toEqual(['ok a', 'ok b', 'ok c', 'ok d']);
    // Not idempotent, though fast.
    ending(dispatchOf(pool.send)(call('e')));
    ending(dispatchOf(pool.send)(call('f')));
    expect([link.texts(), pool.queued]).toEqual([['e'], 1]);
  });

  test('are not sent after a call of another method, nor before one that has waited longer', () => {
    const { pool, link, tell, call } = quick();
    ending(dispatchOf(pool.send)(call('slow')));
    tell('a');
    expect([link.texts(), pool.queued]).toEqual([['slow'], 1]);
    ending(dispatchOf(pool.send)(call('other')));
    link.answer();
    // `a` is running. `other` is next and may not be sent ahead, so later calls are not either.
    tell('b');
    expect([link.texts(), pool.queued]).toEqual([['a'], 2]);
  });

  test('are not sent once calls of that method are slow', () => {
    const { pool, clock, link, tell } = quick();
    tell('a');
    clock.advance(17);
    link.answer();
    tell('b');
    tell('c');
    expect([link.texts(), pool.queued]).toEqual([['b'], 1]);
  });

  test('go to another chassis when theirs does not answer for a while, and the stuck one gets no more', async () => {
    const { pool, clock, members, tell } = quick({ resources: 2 });
    const [stuck, other] = members.map(({ link }) => link) as [ManualLink, ManualLink];
    const ends = ['a', 'b', 'c', 'd'].map((text) => tell(text));
    const [busy, well] = stuck.texts().includes('a') ? [stuck, other] : [other, stuck];
    expect(busy.sent.length + well.sent.length).toBe(4);
    while (well.sent.length > 0) well.answer();
    clock.advance(20);
    expect(busy.texts()).toEqual(['a']);
    while (well.sent.length > 0) well.answer();
    await turn();
    expect(ends.map(({ text }) => text)).toEqual(['pending', 'ok b', 'ok c', 'ok d']);
    const more = ['e', 'f'].map((text) => tell(text));
    expect([busy.texts(), well.texts()]).toEqual([['a'], ['e', 'f']]);
    well.answer();
    well.answer();
    busy.answer();
    await turn();
    expect([...ends, ...more].every(({ text }) => text.startsWith('ok'))).toBe(true);
    expect(sums(pool)['inFlight']).toBe(0);
  });

  test('return to the queue in order when their chassis dies, because they have not begun; only the running one fails', async () => {
    const { pool, resource, link, tell, newResource } = quick();
    const ends = ['a', 'b', 'c', 'd'].map((text) => tell(text));
    pool.remove(resource);
    link.close('was killed');
    resource.settleLosses('ended');
    await turn();
    expect(ends.map(({ text }) => text)).toEqual(['resource_failed', 'pending', 'pending', 'pending']);
    const fresh = newResource('Echo@1.0.0/9');
    pool.add(fresh.resource);
    expect(fresh.link.texts()).toEqual(['b', 'c', 'd']);
    while (fresh.link.sent.length > 0) fresh.link.answer();
    await turn();
    expect(ends.slice(1).map(({ text }) => text)).toEqual(['ok b', 'ok c', 'ok d']);
    expect(sums(pool)['inFlight']).toBe(0);
  });

  test('end as in the queue: at their deadline and with their caller; they do not count against the chassis', async () => {
    const { pool, clock, hung, link, tell } = quick();
    const gone = new AbortController();
    const ends = [tell('a'), tell('b', { deadlineMs: clock.nowMs() + 10 }), tell('c', { signal: gone.signal })];
    gone.abort();
    clock.advance(19);
    await turn();
    expect(ends.map(({ text }) => text)).toEqual(['pending', 'timeout queue', 'cancelled']);
    expect(link.texts()).toEqual(['a']);
    clock.advance(2000);
    expect(hung).toEqual([]);
    link.answer();
    await turn();
    expect(ends[0]?.text).toBe('ok a');
    expect(sums(pool)['inFlight']).toBe(0);
  });

  test('count as in service from when their turn came', async () => {
    const { pool, clock, link, call } = quick();
    const replies = ['a', 'b'].map((text) => dispatchOf(pool.send)(call(text, { method: 'tell' })));
    clock.advance(1);
    link.answer();
    clock.advance(1.5);
    link.answer();
    const { context } = (await replies[1]) as Reply;
    expect([context.queueUs, context.serviceUs]).toEqual([1000, 1500]);
  });
});

describe('Copies of calls', () => {
  const copy = { doNotQueue: true, headers: { 'katamari-mirror': '1' } };

  test('take any free place of a pool that serves nobody else, and never wait', async () => {
    const { pool, members, call } = bench({ resources: 2 });
    const dispatch = dispatchOf(pool.send);
    const ends = ['a', 'b', 'c'].map((text) => ending(dispatch(call(text, copy))));
    await turn();
    expect(ends.map(({ text }) => text)).toEqual(['pending', 'pending', 'overloaded']);
    expect(pool.queued).toBe(0);
    for (const { link } of members) link.answer();
    await turn();
    expect(ends.map(({ text }) => text)).toEqual(['ok a', 'ok b', 'overloaded']);
  });

  test('leave as many places free as other calls had at once in the last seconds', async () => {
    const { pool, members, call, clock } = bench({ resources: 4 });
    const dispatch = dispatchOf(pool.send);
    const answerAll = (): void => members.forEach(({ link }) => link.sent.length > 0 && link.answer());
    // The pool watches its calls from the first copy on.
    void dispatch(call('first', copy));
    answerAll();
    for (const text of ['a', 'b', 'c']) void dispatch(call(text));
    answerAll();
    await turn();
    const copies = async (): Promise<string[]> => {
      const ends = ['x', 'y', 'z', 'w'].map((text) => ending(dispatch(call(text, copy))));
      await turn();
      return ends.map(({ text }) => text);
    };
    expect(await copies()).toEqual(['pending', 'overloaded', 'overloaded', 'overloaded']);
    const live = ['a', 'b', 'c'].map((text) => ending(dispatch(call(text))));
    expect([pool.queued, pool.free]).toEqual([0, 0]);
    answerAll();
    await turn();
    expect(live.map(({ text }) => text)).toEqual(['ok a', 'ok b', 'ok c']);
    clock.advance(25_000);
    expect(await copies()).toEqual(['pending', 'pending', 'pending', 'pending']);
  });

  test('are not sent ahead of calls that come later', async () => {
    const made = bench({ ahead: 8 });
    makeQuick(made);
    const { pool, members, call } = made;
    const [{ link }] = members as unknown as [{ link: ManualLink }];
    const dispatch = dispatchOf(pool.send);
    void dispatch(call('running', { method: 'tell' }));
    const refused = ending(dispatch(call('copy', { ...copy, method: 'tell' })));
    void dispatch(call('next', { method: 'tell' }));
    await turn();
    expect([refused.text, link.texts()]).toEqual(['overloaded', ['running', 'next']]);
  });
});

/** Serves calls that take no time until the pool considers `tell` and `say` fast. */
function makeQuick({ pool, members, call }: Pick<ReturnType<typeof bench>, 'pool' | 'members' | 'call'>): void {
  for (let i = 0; i < 80; i++) {
    void dispatchOf(pool.send)(call('first', { method: i % 2 === 0 ? 'tell' : 'say' }));
    for (const { link } of members) if (link.sent.length > 0) link.answer();
  }
}

/** A small seeded generator: equal seeds give equal runs. */
function mulberry(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('Copies of one call', () => {
  const group = { group: 'g', method: 'tell' };
  const dispatch = (pool: ResourcePool, call: Call): { text: string } => ending(dispatchOf(pool.send)(call));
  const linksOf = (members: readonly { link: ManualLink }[]): string[][] => members.map(({ link }) => link.texts());

  test('get different chassis, also one after the other, and other calls do not wait behind them', async () => {
    const { pool, members, call } = bench({ resources: 2 });
    const [one, two] = members as unknown as [{ link: ManualLink }, { link: ManualLink }];
    dispatch(pool, call('busy'));
    const first = dispatch(pool, call('first', group));
    const second = dispatch(pool, call('second', group));
    expect(linksOf(members)).toEqual([['first'], ['busy']]);
    one.link.answer();
    await turn();
    expect(first.text).toBe('ok first');
    // The chassis of the first copy is free, and the second copy waits for the other one.
    expect([pool.free, pool.queued]).toEqual([1, 1]);
    dispatch(pool, call('plain'));
    expect(linksOf(members)).toEqual([['plain'], ['busy']]);
    one.link.answer();
    two.link.answer();
    expect(linksOf(members)).toEqual([[], ['second']]);
    two.link.answer();
    await turn();
    expect(second.text).toBe('ok second');
  });

  test('are refused when every chassis has one, and may use the chassis of a copy that has failed', async () => {
    const { pool, members, call } = bench({ resources: 2 });
    const [one] = members as [{ link: ManualLink; resource: Resource }];
    dispatch(pool, call('first', group));
    dispatch(pool, call('second', group));
    const third = dispatch(pool, call('third', group));
    await turn();
    expect(third.text).toBe('overloaded');
    const { sink } = one.link.sent.shift() as { sink: ReplySink };
    sink.fail(new KatamariError('bad_request', 'refused'));
    await turn();
    dispatch(pool, call('fourth', group));
    expect(one.link.texts()).toEqual(['fourth']);
  });

  test('leave the queue when they are cancelled, and never run', async () => {
    const { pool, members, call } = bench({ resources: 2 });
    const [one, two] = members as unknown as [{ link: ManualLink }, { link: ManualLink }];
    dispatch(pool, call('busy'));
    dispatch(pool, call('first', group));
    const caller = new AbortController();
    const second = dispatch(pool, call('second', { ...group, signal: caller.signal }));
    one.link.answer();
    expect(pool.queued).toBe(1);
    caller.abort();
    await turn();
    expect([second.text, pool.queued]).toEqual(['cancelled', 0]);
    two.link.answer();
    expect(linksOf(members)).toEqual([[], []]);
    const { inFlight, accepted, replied, cancelled } = sums(pool);
    expect({ inFlight, accepted, replied, cancelled }).toEqual({ inFlight: 0, accepted: 3, replied: 2, cancelled: 1 });
  });

  test('are not sent ahead to the chassis of another copy, and are taken back when they are cancelled', async () => {
    const { pool, members, call } = bench({ resources: 2, ahead: 4 });
    const [one, two] = members as unknown as [{ link: ManualLink }, { link: ManualLink }];
    // So that the method is known to be quick.
    for (let n = 0; n < 40; n++) {
      const warm = dispatch(pool, call('warm', { method: 'tell' }));
      for (const { link } of members) if (link.sent.length > 0) link.answer();
      await turn();
      expect(warm.text).toBe('ok warm');
    }
    dispatch(pool, call('a', { method: 'tell' }));
    dispatch(pool, call('b', { method: 'tell' }));
    dispatch(pool, call('first', group));
    const caller = new AbortController();
    dispatch(pool, call('second', { ...group, signal: caller.signal }));
    const holds = (link: ManualLink, text: string): boolean => link.texts().includes(text);
    expect(holds(one.link, 'first')).not.toBe(holds(one.link, 'second'));
    expect(holds(two.link, 'first')).not.toBe(holds(two.link, 'second'));
    caller.abort();
    expect([...one.link.texts(), ...two.link.texts()].sort()).toEqual(['a', 'b', 'first']);
  });

  test('are known to the deadline of their call', async () => {
    const { clock, pool, members, call } = bench({ resources: 2 });
    const [one, two] = members as unknown as [{ link: ManualLink }, { link: ManualLink }];
    const deadlineMs = clock.nowMs() + 10_000;
    dispatch(pool, call('first', { ...group, deadlineMs }));
    two.link.answer();
    // The last resource that was freed is used first, so without the group the second copy would get it too.
    dispatch(pool, call('second', { ...group, deadlineMs }));
    expect(linksOf(members)).toEqual([['second'], []]);
    one.link.answer();
    const third = dispatch(pool, call('third', { ...group, deadlineMs }));
    await turn();
    expect(third.text).toBe('overloaded');
    // A new call of the same name, long after.
    clock.advance(20_000);
    dispatch(pool, call('other', { group: 'h' }));
    dispatch(pool, call('again', group));
    expect(linksOf(members).flat().sort()).toEqual(['again', 'other']);
  });
});
