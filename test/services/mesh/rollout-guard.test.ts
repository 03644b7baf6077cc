// Guards of rollouts as people write them, right and wrong.

import { expect, test } from 'vitest';
import { formatGuard, parseGuard } from '../../../services/mesh/mod.ts';

test('A guard is read with spaces and units as people write them', () => {
  expect(parseGuard('errors +0.5pt')).toEqual({ metric: 'errors', max: 0.5 });
  expect(parseGuard(' Errors  + 1 points ')).toEqual({ metric: 'errors', max: 1 });
  expect(parseGuard('errors+0pt')).toEqual({ metric: 'errors', max: 0 });
  expect(parseGuard('p99 x1.3')).toEqual({ metric: 'p99', max: 1.3 });
  expect(parseGuard('p50 × 2')).toEqual({ metric: 'p50', max: 2 });
  expect(parseGuard('queue  p99 x2')).toEqual({ metric: 'queue p99', max: 2 });
  expect(parseGuard('diff < 1%')).toEqual({ metric: 'diff', max: 1 });
  expect(parseGuard('diff<0.25 %')).toEqual({ metric: 'diff', max: 0.25 });
});

test('A guard is written as it is read', () => {
  for (const text of ['errors +0.5pt', 'p90 x1.3', 'queue p99 x2', 'diff < 1%'])
    expect(formatGuard(parseGuard(text))).toBe(text);
});

test('A wrong guard is refused with what was found, the nearest name, and an example', () => {
  const refusals = {
    '': `unknown metric ""; known: errors, p50, p90, p99, queue p50, queue p90, queue p99, diff; expected one such as 'errors +0.5pt'`,
    'erors +1pt': `unknown metric "erors", did you mean "errors"; expected one such as 'errors +0.5pt'`,
    'p95 x1.3': `unknown metric "p95", did you mean "p90"; expected one such as 'errors +0.5pt'`,
    errors: `found "" after errors; expected one such as 'errors +0.5pt'`,
    'errors +0.5%': `found "+0.5%" after errors; expected one such as 'errors +0.5pt'`,
    'errors +101pt': `101 is not 0 to 100 points; expected one such as 'errors +0.5pt'`,
    'p99 1.3': `found "1.3" after p99; expected one such as 'p99 x1.3'`,
    'p99 x0.9': `0.9 is not 1 to 1000 times; expected one such as 'p99 x1.3'`,
    'queue p99 +1': `found "+1" after queue p99; expected one such as 'queue p99 x1.3'`,
    'diff < 0%': `0 is not above 0 and at most 100 %; expected one such as 'diff < 1%'`,
    'diff > 1%': `found "> 1%" after diff; expected one such as 'diff < 1%'`,
  };
  for (const [text, why] of Object.entries(refusals))
    expect(() => parseGuard(text)).toThrow(`Cannot read the guard ${JSON.stringify(text)}: ${why}`);
  expect(() => parseGuard('x'.repeat(1_000_000))).toThrow(/^.{0,400}$/s);
});
