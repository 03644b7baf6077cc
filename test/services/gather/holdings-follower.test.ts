// What a process knows of the shards of a manager while the link to it breaks and comes back.
import { describe, expect, test } from 'vitest';
import { HoldingsFollower } from '../../../services/gather/holdings-follower.ts';
import type { Holding, Holdings } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const WIKI: Holding = {
  indexVersion: 'wiki@1.0.0',
  places: '0-3',
  serviceName: 'Words',
  serviceVersion: '1.0.0',
  manifest: '',
};

/** Lets promises settle. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await Promise.resolve();
}

describe('The holdings of a manager', () => {
  test('stay while it cannot be reached, and are read soon after it is back', async () => {
    const clock = new ManualClock();
    const told: (readonly Holding[] | undefined)[] = [];
    const follower = new HoldingsFollower(clock, (_, held) => told.push(held?.holdings));
    let answer: Holdings | undefined = { start: 'first', seq: 7, holdings: [WIKI], failed: [] };
    let onBreak: (error: Error) => void = () => undefined;
    follower.followOwn('m1', async (start, afterSeq) => {
      if (answer === undefined) throw new Error('the link is down');
      if (start === answer.start && afterSeq === answer.seq) await new Promise((_, reject) => (onBreak = reject));
      return answer;
    });
    await settled();
    expect(told).toEqual([[WIKI]]);
    answer = undefined;
    onBreak(new Error('the link broke'));
    for (let at = 0; at < 600; at++) {
      await settled();
      clock.advance(100);
    }
    expect(told).toEqual([[WIKI]]);
    // Another process of that name, which serves nothing yet.
    answer = { start: 'second', seq: 1, holdings: [], failed: [] };
    clock.advance(250);
    await settled();
    expect(told).toEqual([[WIKI], []]);
    follower.close();
  });
});
