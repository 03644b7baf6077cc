import { describe, expect, test } from 'vitest';
import { clipText } from '../../core/mod.ts';

describe('clipText()', () => {
  test('leaves a text that fits, and cuts a longer one at a whole character', () => {
    expect(clipText('12345', 5)).toBe('12345');
    expect(clipText('123456', 5)).toBe('12...');
    expect(clipText('1\u{1F407}3456', 5)).toBe('1...');
    expect(clipText('\u{1F407}3456', 5)).toBe('\u{1F407}...');
  });
});
