// Which calls come from the same caller, whatever text a peer sends as its name.

import { expect, test } from 'vitest';
import { ANONYMOUS, callerKeyOf, callerWithoutPort } from '../../../core/rpc/mod.ts';

const keyOf = (caller: string): string => callerKeyOf({ identity: ANONYMOUS, caller });

test.each([
  ['thrift 10.0.0.7:50312', 'from 10.0.0.7'],
  ['json-rpc 10.0.0.7', 'from 10.0.0.7'],
  ['thrift 255.255.255.255:65535', 'from 255.255.255.255'],
  ['thrift [2001:db8::1]:50312', 'from 2001:db8:0:0::/64'],
  ['json-rpc 2001:db8::2', 'from 2001:db8:0:0::/64'],
  ['thrift [::ffff:10.0.0.7]:5', 'from 10.0.0.7'],
  ['chassis Work@1.0.0/1', 'from chassis Work@1.0.0/1'],
  ['token alice', 'from token alice'],
  ['a:1', 'from a:1'],
  ['', 'from '],
])('The key of %j is %j', (caller, key) => {
  expect(keyOf(caller)).toBe(key);
});

test('A caller keeps what comes before its address', () => {
  expect(callerWithoutPort('thrift 10.0.0.7:50312')).toBe('thrift 10.0.0.7');
});

test('A caller of a million digits or points is read in one pass', () => {
  for (const text of ['1', '1.', ':1', ']:']) {
    const caller = `x ${text.repeat(1_000_000)}x`;
    expect(keyOf(caller)).toBe(`from ${caller}`);
  }
});
