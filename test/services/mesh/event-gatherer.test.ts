// How the events of a manager reach another process: a long poll that returns only what the other process lacks.

import { afterEach, describe, expect, test } from 'vitest';
import { KatamariError, systemClock } from '../../../core/mod.ts';
import type { MeshEvent, MeshStatus, Send } from '../../../core/rpc/mod.ts';
import { EventGatherer, EventLog, VersionReports, withManagerService, type Peer } from '../../../services/mesh/mod.ts';
import { until } from '../../kit/tools/wait.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A manager, and a gatherer in another process that counts its polls. */
function start() {
  const managerLog = new EventLog('manager-1');
  const noAction = (): Promise<never> => Promise.reject(new Error('not part of this test'));
  const refuse: Send = (_call, sink) => sink.fail(new KatamariError('internal', 'not part of this test'));
  const serve = withManagerService(
    {
      status: () => ({}) as MeshStatus,
      events: managerLog,
      name: 'manager-1',
      roll: noAction,
      restart: noAction,
      replicas: () => [],
      verify: () => [],
      verification: () => [],
      versions: new VersionReports({ clock: systemClock, own: () => [] }),
      inspect: () => Promise.reject(new Error('not used')),
      holdings: noAction,
    },
    refuse,
  );
  let polls = 0;
  const send: Send = (call, sink) => {
    polls++;
    serve(call, sink);
  };
  const peer = { name: 'manager-1', state: 'up', send } as unknown as Peer;
  const gathered = new EventLog('faceplate-1');
  const gatherer = new EventGatherer({ events: gathered, clock: systemClock, peers: () => [peer] });
  ends.push(() => {
    gatherer.close();
    managerLog.endWaits();
  });
  gatherer.changed();
  return { managerLog, gathered, polls: () => polls };
}

describe('Gathered events', () => {
  test('arrive once each, without those that every process logs itself and those of a third process', async () => {
    const { managerLog, gathered } = start();
    managerLog.add('deployment_changed', 'Work@1.0.0', 'first');
    managerLog.add('manager_left', 'manager-2', 'every process logs it');
    const [first] = managerLog.after(0);
    managerLog.import({ ...(first as MeshEvent), process: 'manager-3' });
    managerLog.add('deployment_changed', 'Work@2.0.0', 'second');
    await until('both events', () => gathered.after(0).length === 2);
    expect(gathered.after(0).map(({ process, text }) => [process, text])).toEqual([
      ['manager-1', 'first'],
      ['manager-1', 'second'],
    ]);
  });

  test('that the other process does not want end no poll, so that it does not poll again and again', async () => {
    const { managerLog, gathered, polls } = start();
    managerLog.add('deployment_changed', 'Work@1.0.0', 'wanted');
    await until('the event', () => gathered.after(0).length === 1);
    const before = polls();
    for (let i = 0; i < 100; i++) {
      managerLog.add('link_lost', 'manager-2', 'every process logs it');
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(polls() - before).toBeLessThanOrEqual(1);
    managerLog.add('deployment_changed', 'Work@2.0.0', 'wanted');
    await until('the next event', () => gathered.after(0).length === 2);
    expect(polls() - before).toBeLessThanOrEqual(3);
  });

  test('are asked for with pauses if a manager answers every poll at once with nothing', async () => {
    const { managerLog, polls } = start();
    await until('the first poll', () => polls() > 0);
    for (let i = 0; i < 1_000; i++) {
      managerLog.endWaits();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(polls()).toBeLessThan(20);
  });
});
