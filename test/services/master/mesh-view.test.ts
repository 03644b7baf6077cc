// The view of a master when Consul replies arrive out of order. The client is a fake, because a real Consul cannot
// delay one of two replies.

import { afterEach, describe, expect, test } from 'vitest';
import { deploymentFor } from '../../kit/mesh/deployments.ts';
import { systemClock } from '../../../core/mod.ts';
import { ConsulError, type ConsulClient, type ConsulEntry } from '../../../services/consul/mod.ts';
import { MeshView } from '../../../services/master/mesh-view.ts';
import { EventLog, keysOf } from '../../../services/mesh/mod.ts';
import { until } from '../../kit/tools/wait.ts';

interface Listed {
  readonly index: number;
  readonly entries: readonly ConsulEntry[];
}

const keys = keysOf('test');
const [A, B] = ['A@1.0.0', 'B@1.0.0'];
/** Those of indices, holdings, managers, drained managers, rollouts and orders. */
const OTHER_WATCHES = 6;

function entryOf(id: string, modifyIndex: number): ConsulEntry {
  const deployment = deploymentFor({ service: id.slice(0, 1) });
  const key = `${keys.deployments}${id.replace('@', '/')}`;
  return {
    key,
    value: JSON.stringify(deployment),
    problem: '',
    modifyIndex,
    lockIndex: 0,
    flags: 0,
    session: '',
  } as ConsulEntry;
}

/** A fake Consul. The test sends each response about deployments; there are no other keys. */
class SlowConsul {
  readonly asked: ((answer: Listed | Error) => void)[] = [];

  list(prefix: string, { index = 0 }: { index?: number } = {}): Promise<Listed> {
    if (prefix !== keys.deployments) {
      return index > 0 ? new Promise(() => undefined) : Promise.resolve({ index: 1, entries: [] });
    }
    return new Promise((resolve, reject) => {
      this.asked.push((answer) => (answer instanceof Error ? reject(answer) : resolve(answer)));
    });
  }

  /** Answers request number `nth`, and waits until that request is made. */
  async answer(nth: number, answer: Listed | Error): Promise<void> {
    (await until(`question ${nth}`, () => this.asked[nth]))(answer);
  }
}

const views: MeshView[] = [];
afterEach(() => {
  for (const view of views.splice(0)) view.close();
});

/**
 * A view after a consistent read at index 6, with A and B, while the first response of its watch is still in flight.
 */
async function certain(): Promise<{ consul: SlowConsul; view: MeshView; errors: unknown[]; told: () => number }> {
  const consul = new SlowConsul();
  const errors: unknown[] = [];
  let changes = 0;
  const view = new MeshView({
    client: consul as unknown as ConsulClient,
    mesh: 'test',
    events: new EventLog('test'),
    clock: systemClock,
    onChange: () => changes++,
    onError: (error) => errors.push(error),
  });
  views.push(view);
  view.start();
  const refreshed = view.refresh(new AbortController().signal);
  await consul.answer(1, { index: 6, entries: [entryOf(A, 5), entryOf(B, 6)] });
  await refreshed;
  await until('the other watches', () => changes === OTHER_WATCHES);
  return { consul, view, errors, told: () => changes };
}

const seen = (view: MeshView): string[] => [...view.deployments.keys()];

describe('MeshView', () => {
  test('does not go back to the state of a late reply: it reads again', async () => {
    const { consul, view, told } = await certain();
    await consul.answer(0, { index: 5, entries: [entryOf(A, 5)] });
    // The watch continues, and the view makes its own request.
    await until('both to ask', () => consul.asked.length === 4);
    expect([seen(view), told()]).toEqual([[A, B], OTHER_WATCHES]);
    for (const nth of [2, 3]) await consul.answer(nth, { index: 6, entries: [entryOf(A, 5), entryOf(B, 6)] });
    await until('the answers', () => told() > OTHER_WATCHES);
    expect(seen(view)).toEqual([A, B]);
  });

  test('keeps what the watch showed while it was reading', async () => {
    const consul = new SlowConsul();
    const view = new MeshView({
      client: consul as unknown as ConsulClient,
      mesh: 'test',
      events: new EventLog('test'),
      clock: systemClock,
      onChange: () => undefined,
      onError: () => undefined,
    });
    views.push(view);
    view.start();
    const refreshed = view.refresh(new AbortController().signal);
    await until('both to ask', () => consul.asked.length === 2);
    await consul.answer(0, { index: 7, entries: [entryOf(A, 5), entryOf(B, 7)] });
    await until('the watch to be seen', () => seen(view).length === 2);
    await consul.answer(1, { index: 6, entries: [entryOf(A, 5)] });
    await refreshed;
    expect(seen(view)).toEqual([A, B]);
  });

  test("goes back when Consul's data were really restored", async () => {
    const { consul, view } = await certain();
    await consul.answer(0, { index: 5, entries: [entryOf(A, 5)] });
    for (const nth of [2, 3]) await consul.answer(nth, { index: 5, entries: [entryOf(A, 5)] });
    await until('it to be seen', () => seen(view).length === 1);
    expect(seen(view)).toEqual([A]);
  });

  test('accepts the late reply when Consul has nothing newer', async () => {
    const { consul, view, errors } = await certain();
    await consul.answer(0, { index: 5, entries: [entryOf(A, 5)] });
    const away = new ConsulError('away', 0, false, undefined);
    for (const nth of [2, 3]) await consul.answer(nth, away);
    await until('it to be seen', () => seen(view).length === 1);
    expect(errors).toContain(away);
  });
});
