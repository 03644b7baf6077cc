import { describe, expect, test } from 'vitest';
import {
  bareMessage,
  frameMessage,
  messageHead,
  NAME_BYTES_MAX,
  NOTHING,
  parseTarget,
  readHead,
} from '../../../core/thrift/mod.ts';

describe('readHead()', () => {
  test('reads back what frameMessage() wrote, names in UTF-8 and negative sequence ids too', () => {
    for (const [type, name, seqId] of [
      [1, 'add', 1],
      [4, 'Größe@1.0.0:größer', -1],
      [2, '', 2 ** 31 - 1],
      [3, 'x', -(2 ** 31)],
    ] as const) {
      const frame = frameMessage(type, name, seqId, Buffer.from('ab'), Buffer.from('cd'));
      expect(frame.readInt32BE(0)).toBe(frame.length - 4);
      expect(readHead(frame, 4, frame.length)).toEqual({ type, name, seqId, bodyStart: frame.length - 4 });
      expect(frame.toString('latin1', frame.length - 4)).toBe('abcd');
    }
  });

  test('returns undefined for every truncated head', () => {
    const message = bareMessage(1, 'Calculator:add', 7, Buffer.of(0));
    for (let end = 0; end < message.length - 1; end++) expect(readHead(message, 0, end)).toBeUndefined();
    expect(readHead(message, 0, message.length - 1)?.name).toBe('Calculator:add');
  });

  test('refuses messages that are not strict binary, unknown types and overlong names', () => {
    const head = bareMessage(1, 'add', 7, NOTHING);
    const changed = (at: number, value: number): Buffer => {
      const copy = Buffer.from(head);
      copy[at] = value;
      return copy;
    };
    expect(() => readHead(changed(0, 0), 0, head.length)).toThrow(/begins with 0x00010001, expected 0x8001/);
    expect(() => readHead(changed(3, 5), 0, head.length)).toThrow(/Message type is 5/);
    expect(() => readHead(changed(3, 0), 0, head.length)).toThrow(/Message type is 0/);
    expect(() => readHead(changed(4, 0x80), 0, head.length)).toThrow(/Method name is declared -\d+ bytes long/);
    expect(() => readHead(changed(6, 8), 0, head.length)).toThrow(`limit is ${NAME_BYTES_MAX}`);
  });
});

test('messageHead() followed by its body equals the message in one piece', () => {
  const body = Buffer.from('0123456789');
  const whole = frameMessage(2, 'echo', -5, body, NOTHING);
  expect(Buffer.concat([messageHead(2, 'echo', -5, body.length), body])).toEqual(whole);
});

test('parseTarget() splits a name at its last colon and the first @ before it', () => {
  expect(parseTarget('add')).toEqual({ service: '', version: '', method: 'add' });
  expect(parseTarget('Calculator:add')).toEqual({ service: 'Calculator', version: '', method: 'add' });
  expect(parseTarget('Calculator@^1.2:add')).toEqual({ service: 'Calculator', version: '^1.2', method: 'add' });
  expect(parseTarget('a:b:c')).toEqual({ service: 'a:b', version: '', method: 'c' });
  expect(parseTarget('@2:add')).toEqual({ service: '', version: '2', method: 'add' });
  expect(parseTarget(':')).toEqual({ service: '', version: '', method: '' });
});
