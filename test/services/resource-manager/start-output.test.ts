// The output of starts by a clock that the test moves.
import { describe, expect, test } from 'vitest';
import { StartOutput } from '../../../services/resource-manager/start-output.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

function made(): { clock: ManualClock; output: StartOutput; seen: string[] } {
  const clock = new ManualClock();
  const seen: string[] = [];
  return { clock, output: new StartOutput(clock, (line) => seen.push(line)), seen };
}

describe('The output of a start', () => {
  test('is handed on line by line, each a second after it was printed', () => {
    const { clock, output, seen } = made();
    clock.advance(5_000);
    output.push('a');
    clock.advance(600);
    output.push('b');
    expect(seen).toEqual([]);
    clock.advance(400);
    expect(seen).toEqual(['a']);
    clock.advance(599);
    expect(seen).toEqual(['a']);
    clock.advance(1);
    expect([seen, clock.waiting]).toEqual([['a', 'b'], 0]);
  });

  test('is handed on when the start has succeeded, and at once from then on', () => {
    const { clock, output, seen } = made();
    output.push('a');
    output.passOn();
    output.push('b');
    expect([seen, clock.waiting]).toEqual([['a', 'b'], 0]);
  });

  test('is dropped with a permanent fault, as far as it was held back', () => {
    const { clock, output, seen } = made();
    output.push('a');
    clock.advance(1_000);
    output.push('b');
    output.drop();
    expect([seen, clock.waiting]).toEqual([['a'], 0]);
  });

  test('waits for the decision once the process has exited, however long that takes', () => {
    const { clock, output, seen } = made();
    output.push('a');
    output.exited();
    output.push('b');
    clock.advance(10_000);
    expect([seen, clock.waiting]).toEqual([[], 0]);
    output.passOn();
    expect(seen).toEqual(['a', 'b']);
  });

  test('is held back up to 50 lines', () => {
    const { output, seen } = made();
    for (let line = 0; line < 52; line++) output.push(String(line));
    expect(seen).toEqual(['0', '1']);
  });
});
