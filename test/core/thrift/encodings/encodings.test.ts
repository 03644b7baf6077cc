// Common tests for every encoding. It reads back what it writes as the same strict binary, in any pieces and with
// many messages in a row. It never takes a truncated message for a whole one. It refuses messages that are too deep,
// too large or in another encoding, and declared sizes cost no memory.

import { deflateSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Random } from '../../../kit/tools/random.ts';
import { parseIdl } from '../../../../core/idl/mod.ts';
import { KatamariError } from '../../../../core/mod.ts';
import {
  type Encoding,
  type EncodingLimits,
  HttpEncoding,
  HeaderEncoding,
  encodingOf,
  wireFormatOf,
  PROTOCOLS,
  type WireFormat,
} from '../../../../core/thrift/encodings/mod.ts';
import { MANNERS, nameOfManner } from '../../../kit/wire/wire-formats.ts';
import { randomStruct } from '../../../kit/interfaces/random-struct.ts';

const LIMITS: EncodingLimits = { frameBytesMax: 100_000, nestingMax: 20 };
const SEED = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 1e9);

/** The text as bytes. */
function written(encoding: Encoding, name: string, seqId: number, body: Uint8Array, type: 1 | 2 | 3 | 4 = 1): Buffer {
  const pieces: Uint8Array[] = [];
  encoding.write(type, name, seqId, body, pieces);
  return Buffer.concat(pieces);
}

function read(encoding: Encoding, bytes: Buffer): Buffer {
  expect(encoding.next(bytes, 0, bytes.length)).toBe(bytes.length);
  return Buffer.from(encoding.body);
}

function refusalOf(act: () => unknown): [code: string, message: string] {
  try {
    act();
  } catch (error) {
    return [(error as KatamariError).code, (error as Error).message];
  }
  throw new Error('It was not refused');
}

/**
 * A struct that this encoding can carry. Some encodings cannot carry bytes in strings, the element types of empty
 * containers, or a true bool other than 1.
 */
function carried(manner: WireFormat, struct: Buffer): Buffer {
  return read(encodingOf(manner, LIMITS), written(encodingOf(manner, LIMITS), 'm', 1, struct));
}

for (const manner of MANNERS) {
  // The JSON protocol carries no other strings.
  const struct = (random: Random): Buffer => randomStruct(random, 4, manner.protocol === 'json');
  describe(nameOfManner(manner), () => {
    test('is recognized by its first ten bytes', () => {
      const bytes = written(encodingOf(manner, LIMITS), 'method', 7, Buffer.of(0));
      // THeader names its inner protocol only later.
      expect(wireFormatOf(bytes.subarray(0, 10))).toEqual(
        manner.transport === 'header' ? { ...manner, protocol: 'binary' } : manner,
      );
    });

    test('reads what it writes, whole and in any pieces, many messages in a row', () => {
      console.log(`${manner.transport} ${manner.protocol}: KATAMARI_SEED=${SEED}`);
      const random = new Random(SEED);
      for (let round = 0; round < 60; round++) {
        const messages = Array.from({ length: random.between(1, 4) }, () => ({
          name: random.pick(['a', 'method', 'Service@1.2.0:method', 'ünïcödé']),
          seqId: random.pick([0, 1, -1, 0x7fffffff, -0x80000000, random.below(1 << 30)]),
          body: carried(manner, struct(random)),
          type: random.pick([1, 2, 3, 4] as const),
        }));
        const writer = encodingOf(manner, LIMITS);
        const bytes = Buffer.concat(
          messages.map(({ name, seqId, body, type }) => written(writer, name, seqId, body, type)),
        );
        const reader = encodingOf(manner, LIMITS);
        let at = 0;
        let end = 0;
        for (const { name, seqId, body, type } of messages) {
          let next = -1;
          while (next === -1) {
            end = Math.min(bytes.length, end + random.pick([0, 1, 1, 3, 20, 10_000]));
            // The received bytes may be in another buffer each time.
            next = reader.next(Buffer.from(bytes.subarray(0, end)), at, end);
            expect(next === -1 && end === bytes.length).toBe(false);
          }
          expect(reader.head).toMatchObject({ name, seqId, type });
          expect(Buffer.from(reader.body).equals(body)).toBe(true);
          at = next;
        }
        expect(at).toBe(bytes.length);
      }
    });

    test('never takes a truncated message for a whole one', () => {
      const random = new Random(SEED);
      for (let round = 0; round < 5; round++) {
        const bytes = written(encodingOf(manner, LIMITS), 'method', 3, carried(manner, struct(random)));
        for (let length = 0; length < bytes.length; length++) {
          expect(encodingOf(manner, LIMITS).next(bytes, 0, length)).toBe(-1);
        }
      }
    });

    test('refuses messages that are nested too deeply or too large', () => {
      const deep = Buffer.concat([Buffer.from('0c0001'.repeat(30), 'hex'), Buffer.alloc(31)]);
      const wide = { ...LIMITS, nestingMax: 64 };
      const deepBytes = written(encodingOf(manner, wide), 'm', 1, deep);
      expect(read(encodingOf(manner, wide), deepBytes)).toEqual(deep);
      expect(refusalOf(() => encodingOf(manner, LIMITS).next(deepBytes, 0, deepBytes.length))).toEqual([
        'bad_request',
        expect.stringContaining('nested deeper than 20'),
      ]);
      const text = Buffer.concat([
        Buffer.from('0b0001', 'hex'),
        int32(90_000),
        Buffer.alloc(90_000, 'x'),
        Buffer.of(0),
      ]);
      const largeBytes = written(encodingOf(manner, LIMITS), 'm', 1, text);
      expect(read(encodingOf(manner, LIMITS), largeBytes).equals(text)).toBe(true);
      const narrow = { ...LIMITS, frameBytesMax: 50_000 };
      const refused = refusalOf(() => {
        const reader = encodingOf(manner, narrow);
        for (let end = 1_000; ; end += 1_000) reader.next(largeBytes, 0, Math.min(end, largeBytes.length));
      });
      expect(refused).toEqual(['too_large', expect.stringContaining('limit is 50000')]);
    });

    test('refuses any corruption or reads something well-formed, and never throws anything else', () => {
      const random = new Random(SEED);
      for (let round = 0; round < 400; round++) {
        const bytes = written(encodingOf(manner, LIMITS), 'method', 3, carried(manner, struct(random)));
        for (let n = random.between(1, 3); n > 0; n--) bytes[random.below(bytes.length)] = random.below(256);
        const reader = encodingOf(manner, LIMITS);
        try {
          if (reader.next(bytes, 0, bytes.length) !== -1)
            carried({ transport: 'framed', protocol: 'binary' }, Buffer.from(reader.body));
        } catch (error) {
          expect(error).toBeInstanceOf(KatamariError);
          expect(['bad_request', 'too_large']).toContain((error as KatamariError).code);
        }
      }
    });
  });
}

describe('Declared sizes', () => {
  const cases: readonly [string, WireFormat, string][] = [
    ['a compact string', { transport: 'buffered', protocol: 'compact' }, '82210101 6d 18 ffffffff07'],
    ['a compact list', { transport: 'buffered', protocol: 'compact' }, '82210101 6d 19 f5 ffffffff07'],
    ['a compact map', { transport: 'buffered', protocol: 'compact' }, '82210101 6d 1b ffffffff07 88'],
    ['a frame', { transport: 'framed', protocol: 'compact' }, '7fffffff 82210101 6d'],
    ['a frame with a header', { transport: 'header', protocol: 'binary' }, '7fffffff 0fff'],
  ];
  for (const [what, manner, hex] of cases) {
    test(`of ${what} are refused at once`, () => {
      const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex');
      expect(refusalOf(() => encodingOf(manner, LIMITS).next(bytes, 0, bytes.length))[0]).toBe('too_large');
    });
  }

  test('of JSON are refused when they exceed the received bytes', () => {
    const bytes = Buffer.from('[1,"m",1,0,{"1":{"lst":["i32",1000000000,1]}}]');
    expect(
      refusalOf(() => encodingOf({ transport: 'buffered', protocol: 'json' }, LIMITS).next(bytes, 0, bytes.length)),
    ).toEqual(['bad_request', expect.stringContaining('expected a whole number of 0 to')]);
  });
});

describe('The compact protocol', () => {
  test('reads messages that expand, up to the limit', () => {
    // A list of i64 zeros takes one byte each here and eight in strict binary.
    const count = 20_000;
    const bytes = Buffer.concat([
      Buffer.from('822101016d19f6', 'hex'),
      Buffer.of((count & 0x7f) | 0x80, ((count >> 7) & 0x7f) | 0x80, count >> 14),
      Buffer.alloc(count + 1),
    ]);
    const refused = refusalOf(() =>
      encodingOf({ transport: 'buffered', protocol: 'compact' }, LIMITS).next(bytes, 0, bytes.length),
    );
    expect(refused).toEqual(['too_large', expect.stringContaining('in strict binary')]);
  });

  test('refuses endless numbers, ids and i16 out of range, and unknown types', () => {
    for (const [hex, message] of [
      ['15ffffffffff01', /longer than 5 bytes/],
      ['16ffffffffffffffffffffff01', /longer than 10 bytes/],
      ['05feffffff0f00', /Field id .* does not fit/],
      ['14feffffff0f', /declared an i16/],
      ['1e', /Type 14 is not a type of the compact protocol/],
    ] as const) {
      const bytes = Buffer.from(`822101016d${hex}`, 'hex');
      const [code, text] = refusalOf(() =>
        encodingOf({ transport: 'buffered', protocol: 'compact' }, LIMITS).next(bytes, 0, bytes.length),
      );
      expect([code, text]).toEqual(['bad_request', expect.stringMatching(message)]);
    }
  });
});

describe('The JSON protocol', () => {
  const { services } = parseIdl({
    main: 'x.thrift',
    files: {
      'x.thrift': 'struct S { 1: binary b, 2: string s } service X { S m(1: S s, 2: map<binary, list<binary>> many) }',
    },
  });
  const method = services.get('X')?.methods.get('m');
  const text =
    '[1,"m",1,0,{"1":{"rec":{"1":{"str":"AP8="},"2":{"str":"AP8="}}},"2":{"map":["str","lst",1,{"AP8=":["str",1,"/w"]}]}}]';

  test('uses base64 for binary fields of the interface, and text for strings', () => {
    const bytes = Buffer.from(text);
    const reader = encodingOf({ transport: 'buffered', protocol: 'json' }, LIMITS, () => method?.args);
    const body = read(reader, bytes);
    expect(body.toString('hex')).toBe(
      `0c0001 0b0001 00000002 00ff 0b0002 00000004 ${Buffer.from('AP8=').toString('hex')} 00 0d0002 0b0f 00000001 00000002 00ff 0b 00000001 00000001 ff 00`.replaceAll(
        ' ',
        '',
      ),
    );
    const out: Uint8Array[] = [];
    reader.write(1, 'm', 0, body, out, method?.args);
    expect(Buffer.concat(out).toString()).toBe(text.replace('/w', '/w=='));
  });

  test('refuses bytes that are not base64, and reads base64 without padding and with line breaks', () => {
    const read = (value: string): string => {
      const reader = encodingOf({ transport: 'buffered', protocol: 'json' }, LIMITS, () => method?.args);
      const bytes = Buffer.from(`[1,"m",1,0,{"1":{"rec":{"1":{"str":"${value}"}}}}]`);
      reader.next(bytes, 0, bytes.length);
      return Buffer.from(reader.body.subarray(10, -2)).toString();
    };
    for (const value of ['a2F0YW1hcmk=', 'a2F0YW1hcmk', 'a2F0\\nYW1hcmk=\\n']) expect(read(value)).toBe('katamari');
    for (const value of ['a2F0!W1hcmk=', 'a2F0=YW1hcmk', 'caf\u00e9'])
      expect(() => read(value)).toThrow('is not base64');
  });

  test('carries every i64 and double exactly, escapes of all kinds, and whitespace', () => {
    const bytes = Buffer.from(
      ' \n[1, "m", 1, 0, {"1": {"i64": -9223372036854775808}, "2": {"lst": ["dbl", 5, "NaN", "-Infinity", -0, 1e-7, 5e-324]}, "3": {"str": "\\u00e9\\ud83d\\ude00\\n\\\\\\"é"}, "4": {"map": ["i64", "tf", 1, {"9007199254740993": 1}]}}]\r\n',
    );
    const reader = encodingOf({ transport: 'buffered', protocol: 'json' }, LIMITS);
    const again: Uint8Array[] = [];
    reader.write(1, 'm', 0, read(reader, bytes), again);
    expect(Buffer.concat(again).toString()).toBe(
      '[1,"m",1,0,{"1":{"i64":-9223372036854775808},"2":{"lst":["dbl",5,"NaN","-Infinity",-0,1e-7,5e-324]},"3":{"str":"é😀\\n\\\\\\"é"},"4":{"map":["i64","tf",1,{"9007199254740993":1}]}}]',
    );
  });

  test('reports the mistake and its position', () => {
    for (const [wrong, message] of [
      ['[2,"m",1,0,{}]', /expected a whole number of 1 to 1/],
      ['[1,"m",1,0,{"1":{"i8":200}}]', /expected a whole number of -128 to 127/],
      ['[1,"m",1,0,{"1":{"what":1}}]', /Type "what" is not a type of the JSON protocol/],
      ['[1,"m",1,0,{"1":{"lst":["i32",2,1]}}]', /expected ",", got "\]/],
      ['[1,"m",1,0,{"1":{"uid":"no"}}]', /expected a uuid/],
      ['[1,"m",1,0,{"1":{"i64":9223372036854775808}}]', /expected an i64/],
      ['[1,"m",1,0,{}}]', /expected "\]"/],
      ['[1,"m\xff",1,0,{}]', /is not UTF-8/],
      ['[1,"m",1,0,{"1":{"str":"\xc3"}}]', /is not UTF-8/],
    ] as const) {
      const bytes = Buffer.from(wrong, 'latin1');
      const [code, text] = refusalOf(() => {
        encodingOf({ transport: 'buffered', protocol: 'json' }, LIMITS).next(bytes, 0, bytes.length);
      });
      expect([code, text]).toEqual(['bad_request', expect.stringMatching(message)]);
    }
  });
});

describe('THeader', () => {
  const body = Buffer.concat([Buffer.from('0b0001', 'hex'), int32(5_000), Buffer.alloc(5_000, 'x'), Buffer.of(0)]);

  test('carries headers both ways, in both protocols, compressed and not', () => {
    for (const protocol of ['binary', 'compact'] as const) {
      for (const zlib of [false, true]) {
        const client = new HeaderEncoding(LIMITS, { protocol, zlib });
        const sent: Uint8Array[] = [];
        client.write(1, 'm', 9, body, sent, undefined, { 'Katamari-Version': '^2', 'x-é': 'ü' });
        const bytes = Buffer.concat(sent);
        expect(bytes.length < 1_000).toBe(zlib);
        const server = new HeaderEncoding(LIMITS);
        expect(read(server, bytes).equals(body)).toBe(true);
        // One character per byte.
        expect({ ...server.headers }).toEqual({ 'katamari-version': '^2', 'x-Ã©': 'Ã¼' });
        // The reply uses the same format.
        const answer: Uint8Array[] = [];
        server.write(2, 'm', 9, body, answer, undefined, { 'katamari-version': '2.0.1' });
        expect(Buffer.concat(answer).length < 1_000).toBe(zlib);
        expect(read(client, Buffer.concat(answer)).equals(body)).toBe(true);
        expect({ ...client.headers }).toEqual({ 'katamari-version': '2.0.1' });
      }
    }
  });

  test('refuses a zlib bomb without decompressing it, garbage in its place, and other transforms', () => {
    const frame = (transform: number, payload: Buffer): Buffer => {
      const header = Buffer.of(0, 1, transform, 0);
      const fixed = Buffer.alloc(14);
      fixed.writeInt32BE(10 + header.length + payload.length, 0);
      fixed.writeUInt16BE(0x0fff, 4);
      fixed.writeUInt16BE(1, 12);
      return Buffer.concat([fixed, header, payload]);
    };
    const bomb = frame(1, deflateSync(Buffer.alloc(20_000_000)));
    expect(bomb.length).toBeLessThan(100_000);
    for (const [bytes, code, message] of [
      [bomb, 'too_large', /becomes more than 100000 bytes/],
      [frame(1, Buffer.from('no zlib')), 'bad_request', /cannot be decompressed/],
      [frame(3, Buffer.of(0)), 'bad_request', /Transform 3/],
    ] as const) {
      expect(refusalOf(() => new HeaderEncoding(LIMITS).next(bytes, 0, bytes.length))).toEqual([
        code,
        expect.stringMatching(message),
      ]);
    }
  });

  test('limits headers, and refuses truncated ones', () => {
    const bytes = (header: string): Buffer => {
      const inner = Buffer.from(header, 'hex');
      const padded = Buffer.concat([inner, Buffer.alloc((4 - (inner.length % 4)) % 4)]);
      const message = Buffer.from('80010001000000016d0000000000', 'hex');
      const fixed = Buffer.alloc(14);
      fixed.writeInt32BE(10 + padded.length + message.length, 0);
      fixed.writeUInt16BE(0x0fff, 4);
      fixed.writeUInt16BE(padded.length / 4, 12);
      return Buffer.concat([fixed, padded, message]);
    };
    // An unknown info type is skipped with everything after it.
    expect(new HeaderEncoding(LIMITS).next(bytes('00007f123456'), 0, bytes('00007f123456').length)).toBeGreaterThan(0);
    for (const [header, message] of [
      ['000001e807', /More than 100 headers/],
      ['000001ffffffff0f', /More than 100 headers/],
      ['00000101ff', /ends in the middle/],
      ['0000010105', /ends in the middle/],
      ['0500', /Protocol 5 in a header/],
    ] as const) {
      const [code, text] = refusalOf(() => new HeaderEncoding(LIMITS).next(bytes(header), 0, bytes(header).length));
      expect([code, text]).toEqual(['bad_request', expect.stringMatching(message)]);
    }
  });
});

describe('HTTP', () => {
  const limits = { ...LIMITS, headersMax: 10 };
  const message = written(encodingOf({ transport: 'buffered', protocol: 'binary' }, LIMITS), 'm', 4, Buffer.of(0));
  const post = (headers: string, body: Buffer | string): Buffer =>
    Buffer.concat([Buffer.from(`POST /x HTTP/1.1\r\nHost: y\r\n${headers}\r\n`), Buffer.from(body)]);
  const chunked = (...sizes: readonly number[]): Buffer => {
    let at = 0;
    const chunks = sizes.map((size) => {
      const chunk = message.subarray(at, at + size);
      at += size;
      return Buffer.concat([Buffer.from(`${chunk.length.toString(16)};ext=1\r\n`), chunk, Buffer.from('\r\n')]);
    });
    return Buffer.concat([...chunks, Buffer.from('0\r\nTrailer: 1\r\n\r\n')]);
  };

  test('reads bodies with a length and in chunks, in any pieces, with several requests in a row', () => {
    const random = new Random(SEED);
    for (const protocol of PROTOCOLS) {
      const inner = encodingOf({ transport: 'buffered', protocol }, LIMITS);
      const own = written(inner, 'm', 4, Buffer.of(0));
      const bytes = Buffer.concat([
        post(`Content-Length: ${own.length}\r\nkatamari-version: 2\r\nX-Own: 1\r\nCookie: 2\r\n`, own),
        post('Transfer-Encoding: chunked\r\n', chunked(3, 1, message.length - 4)),
      ]);
      const reader = new HttpEncoding(limits);
      let at = 0;
      let end = 0;
      for (const headers of [{ 'katamari-version': '2', 'x-own': '1' }, {}]) {
        let next = -1;
        while (next === -1) {
          end = Math.min(bytes.length, end + random.pick([1, 2, 30]));
          next = reader.next(Buffer.from(bytes.subarray(0, end)), at, end);
        }
        expect(reader.head).toMatchObject({ name: 'm', seqId: 4 });
        expect({ ...reader.headers }).toEqual(headers);
        expect(reader.isLast).toBe(false);
        at = next;
      }
      expect(at).toBe(bytes.length);
    }
  });

  test('answers 200 in the same protocol, an empty body to oneway calls, and plain text to clients that speak no Thrift', () => {
    const reader = new HttpEncoding(limits);
    const bytes = post(`Content-Length: ${message.length}\r\nConnection: close\r\n`, message);
    expect(reader.next(bytes, 0, bytes.length)).toBe(bytes.length);
    expect(reader.isLast).toBe(true);
    const answer = written(reader, 'm', 4, Buffer.of(0), 2).toString('latin1');
    expect(answer).toMatch(
      /^HTTP\/1\.1 200 OK\r\ncontent-type: application\/x-thrift\r\ncontent-length: 14\r\nconnection: close\r\n\r\n/,
    );
    expect(written(reader, 'm', 4, Buffer.alloc(0), 2).toString()).toMatch(/content-length: 0\r\n.*\r\n\r\n$/s);
  });

  test('answers Expect: 100-continue', () => {
    const reader = new HttpEncoding(limits);
    const bytes = post(`Content-Length: ${message.length}\r\nExpect: 100-continue\r\n`, message);
    expect(reader.next(bytes, 0, bytes.length - message.length)).toBe(-1);
    expect(Buffer.from(reader.takeInterim() ?? []).toString()).toBe('HTTP/1.1 100 Continue\r\n\r\n');
    expect(reader.takeInterim()).toBeUndefined();
    expect(reader.next(bytes, 0, bytes.length)).toBe(bytes.length);
  });

  test('refuses ambiguous requests, requests that are too large or too many, and bytes that are not HTTP', () => {
    for (const [bytes, code, wrong] of [
      [post('Content-Length: 3\r\nTransfer-Encoding: chunked\r\n', 'xxx'), 'bad_request', /beside a Content-Length/],
      [post('Content-Length: 3\r\nContent-Length: 4\r\n', 'xxx'), 'bad_request', /Content-Length is "3, 4"/],
      [post('Transfer-Encoding: gzip\r\n', 'xxx'), 'bad_request', /"gzip"/],
      [post('', ''), 'bad_request', /Content-Length is missing/],
      [post('Content-Length: 100001\r\n', ''), 'too_large', /limit is 100000/],
      [post('Transfer-Encoding: chunked\r\n', 'fffffff\r\n'), 'too_large', /limit is 100000/],
      [post('Transfer-Encoding: chunked\r\n', 'zz\r\n'), 'bad_request', /not in the chunked encoding/],
      [post('a: 1\r\n'.repeat(11), ''), 'bad_request', /More than 10 headers/],
      [post('no header\r\n', ''), 'bad_request', /Not an HTTP header/],
      [Buffer.from(`POST /${'x'.repeat(20_000)}`), 'too_large', /head of the request is longer/],
      [Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'bad_request', /saw GET/],
      [post('Content-Length: 2\r\n', '{}'), 'bad_request', /begins with "\{\}"/],
    ] as const) {
      expect(refusalOf(() => new HttpEncoding(limits).next(bytes, 0, bytes.length))).toEqual([
        code,
        expect.stringMatching(wrong),
      ]);
    }
  });
});

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}
