// A slot whose turn in the start limiter comes late.
import { expect, test } from 'vitest';
import type { ProcessInstance } from '../../../services/resource-manager/instance.ts';
import { PermanentFaults } from '../../../services/resource-manager/permanent-fault.ts';
import type { ResourcePool } from '../../../services/resource-manager/pool.ts';
import { Slot } from '../../../services/resource-manager/slot.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

test('Slot.start() does nothing once a replacement has brought the slot up', async () => {
  const clock = new ManualClock();
  const launched: object[] = [];
  const pool = { add: () => undefined, remove: () => undefined } as unknown as ResourcePool;
  const slot = new Slot({
    name: 'Work@1.0.0/1',
    deployment: { restart: { intensity: 5, periodMs: 1_000, backoffFirstMs: 100, backoffMaxMs: 1_000 } } as never,
    clock,
    faults: new PermanentFaults(clock),
    launch: () => {
      const instance = { process: { pid: 1 }, resource: {}, start: () => Promise.resolve() };
      launched.push(instance);
      return instance as unknown as ProcessInstance;
    },
    admit: () => pool,
    onPoolLeft: () => undefined,
    report: () => undefined,
    onRestart: () => undefined,
  });
  // The start limiter has not started it yet; a rolling restart does.
  await slot.replace('rolling', 'rolling restart');
  expect([slot.isServing, launched.length]).toEqual([true, 1]);
  slot.start();
  // No pause before a start is longer.
  clock.advance(10_000);
  expect(launched.length).toBe(1);
});
