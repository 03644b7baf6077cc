// Calls that go to several copies at once: which copies, which answer wins and when, and what is said of the others.

import { describe, expect, test } from 'vitest';
import { Random } from '../../kit/tools/random.ts';
import { resultOf, startShop, type ScriptedManager, type ScriptedShop } from './copies.ts';

const managers = (count: number): ScriptedManager[] =>
  Array.from({ length: count }, (_, n) => ({ manager: 'abcdefghi'[n] as string }));
const VOTES = { majority: { search: '2 of 3' } };
const found = (score: number): object[] => [{ id: 'x', score, secret: `s${Math.round(score)}` }];
const textOf = (value: unknown, field?: string): string =>
  Buffer.from(resultOf('search', value, field)).toString('hex');
const results = ({ router }: ScriptedShop): object | undefined => router.robustCounts()[0]?.majorities;

describe('A call to a majority', () => {
  test('goes to different managers at once; the answer that enough give alike wins and ends the others', () => {
    const shop = startShop(managers(3), VOTES);
    const asked = shop.call('search');
    expect(shop.holders()).toEqual(['a', 'b', 'c']);
    expect(new Set(shop.got.map((copy) => copy.call.group)).size).toBe(1);
    shop.answer('b', found(1));
    expect(asked.end).toBe('pending');
    shop.answer('c', found(1 + 1e-12));
    expect(asked.end).toBe(`of b ${textOf(found(1))}`);
    expect(shop.holders()).toEqual([]);
    expect(results(shop)).toEqual({ agreed: 1, disagreed: 0, undecided: 0, too_few: 0 });
    expect(shop.disagreements).toEqual([]);
  });

  test('names the copy that answers otherwise and where, once in ten seconds', () => {
    const shop = startShop(managers(3), VOTES);
    for (let n = 0; n < 4; n++) {
      const asked = shop.call('search');
      shop.answer('a', found(2));
      shop.answer('b', found(1));
      shop.answer('c', found(1));
      expect(asked.end).toBe(`of b ${textOf(found(1))}`);
      if (n === 2) shop.clock.advance(10_000);
    }
    expect(shop.disagreements).toEqual([
      'Shop@1.0.0.search outvoted: of a of manager a: [0].score is 2, not 1',
      'Shop@1.0.0.search outvoted: of a of manager a: [0].score is 2, not 1; 2 more since the last report',
    ]);
    expect(results(shop)).toMatchObject({ disagreed: 4 });
  });

  test('compares declared exceptions, and does not count undeclared ones and errors', () => {
    const shop = startShop(managers(4), { majority: { search: '3 of 4' } });
    const asked = shop.call('search');
    shop.answer('a', { name: 'n' }, 'unknown');
    shop.throwUndeclared('b');
    shop.answer('c', { name: 'n' }, 'unknown');
    expect(asked.end).toBe('pending');
    shop.answer('d', { name: 'n' }, 'unknown');
    expect(asked.end).toBe(`of a ${textOf({ name: 'n' }, 'unknown')}`);
  });

  test('fails as soon as no majority is possible, says what the answers were, and hides secrets', () => {
    const shop = startShop(managers(3), VOTES);
    const asked = shop.call('search');
    shop.answer('a', found(1));
    shop.throwUndeclared('b');
    expect(asked.end).toBe('pending');
    shop.answer('c', found(2));
    expect(asked.end).toBe(
      'resource_failed: No 2 copies of Shop@1.0.0 gave the same answer to search: 1 x [{"id":"x","score":1,"secret":"***"}], ' +
        '1 x [{"id":"x","score":2,"secret":"***"}], 1 x undeclared exception "it broke"',
    );
    expect(shop.disagreements).toEqual(['Shop@1.0.0.search no majority: of c of manager c: [0].score is 2, not 1']);
    expect(results(shop)).toMatchObject({ undecided: 1 });
  });

  test('passes on the error when all copies fail alike', () => {
    const shop = startShop(managers(3), VOTES);
    const asked = shop.call('search');
    shop.refuse('a', 'denied');
    shop.refuse('b', 'denied');
    expect(asked.end).toBe('denied: scripted denied');
    expect(shop.holders()).toEqual([]);
  });

  test('asks another copy in place of one that fails, and of those that keep others waiting', () => {
    const shop = startShop(managers(5), VOTES);
    const asked = shop.call('search');
    shop.refuse('a', 'denied');
    expect(shop.holders()).toEqual(['b', 'c', 'd']);
    // b lies and c hangs.
    shop.answer('b', found(2));
    shop.answer('d', found(1));
    expect(shop.holders()).toEqual(['c', 'e']);
    shop.answer('e', found(1));
    expect(asked.end).toBe(`of d ${textOf(found(1))}`);
    expect(shop.holders()).toEqual([]);
  });

  test('goes to no further copy once it may have cost one its life', () => {
    const shop = startShop(managers(6), VOTES);
    const asked = shop.call('search');
    shop.crash('a');
    expect(shop.holders()).toEqual(['b', 'c']);
    shop.crash('b');
    expect(asked.end).toBe('resource_failed: it crashed');
    expect(shop.holders()).toEqual([]);
  });

  test('is sent once if nobody waits for an answer, and not at all if its caller has gone', () => {
    const shop = startShop(managers(3), VOTES);
    shop.call('search', { oneway: true });
    expect(shop.holders()).toEqual(['a']);
    expect(shop.call('search', { signal: AbortSignal.abort() }).end).toContain('cancelled');
    expect(shop.holders()).toEqual(['a']);
  });

  test('needs as many copies as it says, or takes fewer if it says so', () => {
    const few = startShop(managers(2), VOTES);
    expect(few.call('search').end).toBe(
      'overloaded: search of Shop@1.0.0 needs 2 of 3, and 2 copies can be reached; start more copies, or allow "or fewer"',
    );
    expect(results(few)).toMatchObject({ too_few: 1 });
    const fewer = startShop(managers(2), { majority: { '*': '2 of 3 or fewer' } });
    const asked = fewer.call('search');
    expect(fewer.holders()).toEqual(['a', 'b']);
    fewer.answer('a', found(1));
    expect(asked.end).toBe('pending');
    fewer.answer('b', found(1));
    expect(asked.end).toContain('of a');
    // Chassis count, not managers.
    const one = startShop([{ manager: 'a', alive: 3 }], VOTES);
    one.call('search');
    expect(one.holders()).toEqual(['a', 'a', 'a']);
  });

  test('goes to versions that share the calls, and compares their answers', () => {
    const versions = ['1.0.0', '2.0.0', '3.0.0', '4.0.0'].map((version) => ({ manager: 'm', version, alive: 2 }));
    const weights = { '1.0.0': 8, '2.0.0': 1, '3.0.0': 1 };
    const shop = startShop(versions, { weights, majority: { search: '2 of 3 versions' } });
    const asked = shop.call('search');
    expect(shop.holders()).toEqual(['m', 'm 2.0.0', 'm 3.0.0']);
    shop.answer('m 2.0.0', found(3));
    shop.answer('m', found(3));
    expect(asked.end).toBe(`of m 2.0.0 ${textOf(found(3))}`);
    const few = startShop(versions.slice(0, 2), { majority: { search: '2 of 3 versions' } });
    expect(few.call('search').end).toContain('needs 2 of 3 versions, and 2 versions can be reached');
  });

  test('is asked for by an annotation, and ends with its caller', () => {
    const shop = startShop(managers(3), undefined);
    const caller = new AbortController();
    const asked = shop.call('vote', { signal: caller.signal });
    expect(shop.holders()).toEqual(['a', 'b', 'c']);
    caller.abort();
    expect([asked.end.slice(0, 9), shop.holders()]).toEqual(['cancelled', []]);
    const sets = shop.call('vote');
    shop.answer('a', new Set(['x', 'y']));
    shop.answer('b', new Set(['y', 'x']));
    expect(sets.end).toContain('of a');
  });
});

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));

test(`A majority is never wrong, and each call ends once, whatever copies do (seed ${SEED})`, () => {
  const random = new Random(SEED);
  for (let round = 0; round < 400; round++) {
    const copies = 3 + random.below(5);
    const alike = 2 + random.below(2);
    const of = Math.min(copies, alike * 2 - 1);
    const shop = startShop(managers(copies), { majority: { search: `${alike} of ${of}` } });
    // Fewer liars than a majority, even if they lie alike.
    const liars = new Set(
      Array.from({ length: random.below(alike) }, () => 'abcdefgh'[random.below(copies)] as string),
    );
    const asked = shop.call('search');
    const voted = new Map<string, number>();
    for (let step = 0; shop.holders().length > 0; step++) {
      expect(step).toBeLessThan(50);
      const manager = shop.holders()[random.below(shop.holders().length)] as string;
      const what = random.below(10);
      if (what === 0) shop.refuse(manager, 'denied');
      else if (what === 1) shop.throwUndeclared(manager);
      else {
        shop.answer(manager, found(liars.has(manager) ? 2 : 1));
        voted.set(manager, (voted.get(manager) ?? 0) + 1);
      }
    }
    expect(asked.end).not.toBe('pending');
    if (asked.end.startsWith('of ')) expect(asked.end).toContain(textOf(found(1)));
    else expect(asked.end).toMatch(/^(resource_failed: No |denied: )/);
    // No copy has two votes.
    expect([...voted.values()].every((votes) => votes === 1)).toBe(true);
    const honest = [...voted.keys()].filter((manager) => !liars.has(manager)).length;
    if (honest >= alike) expect(asked.end).toContain(textOf(found(1)));
    expect(Object.values(results(shop) as object).reduce((sum: number, one: number) => sum + one, 0)).toBe(1);
  }
});
