// The table of types between IDL and JSON (docs/idl.md), through HTTP and back.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startFixture, type JsonRpcFixture } from './fixture.ts';

let fixture: JsonRpcFixture;
beforeAll(async () => {
  fixture = await startFixture();
});
afterAll(() => fixture.end());

const MAX = '9223372036854775807';
const MIN = '-9223372036854775808';

/** Sends `things` as JSON text, so that the wire carries exactly this text. */
async function echoed(things: string): Promise<string> {
  const answer = await fixture.post(`{"jsonrpc":"2.0","id":1,"method":"Fixture.echo","params":{"things":${things}}}`);
  return answer.text.replace(/^{"jsonrpc":"2.0","id":1,"result":/, '').replace(/,?"defaulted":7}}$/, '}');
}

async function result(method: string, params: string): Promise<string> {
  const answer = await fixture.post(`{"jsonrpc":"2.0","id":1,"method":"Fixture.${method}","params":${params}}`);
  const found = /"result":(.*)}$/.exec(answer.text)?.[1];
  return found ?? `${answer.status} ${String(answer.json.error?.code)} ${String(answer.json.error?.message)}`;
}

describe('values that are returned unchanged', () => {
  for (const things of [
    '{"yes":true}',
    '{"yes":false}',
    '{"tiny":-128,"small":32767,"middling":-2147483648}',
    '{"large":9007199254740991}',
    `{"large":"${MAX}"}`,
    `{"large":"${MIN}"}`,
    '{"real":1.5}',
    '{"real":1e+300}',
    '{"real":-0}',
    '{"moods":{"CALM":-0}}',
    '{"real":"NaN"}',
    '{"real":"Infinity"}',
    '{"real":"-Infinity"}',
    '{"text":"héllo \\u0000 \u{1f600}"}',
    '{"bytes":"AAECAw=="}',
    '{"name":"00112233-4455-6677-8899-aabbccddeeff"}',
    '{"mood":"MERRY"}',
    `{"numbers":[1,"${MAX}",-3]}`,
    '{"words":["a","b"]}',
    '{"words":[]}',
    '{"counts":{"a":1,"__proto__":2,"constructor":3}}',
    '{"labels":{"7":"seven","-5":"minus five"}}',
    '{"moods":{"CALM":0.5}}',
    `{"paired":[[[1,2],3],[["${MAX}"],4]]}`,
    '{"either":{"left":5}}',
    '{"either":{"right":"x"}}',
  ]) {
    test(things, async () => {
      expect(await echoed(things)).toBe(things);
    });
  }

  test('a struct in a struct, with its defaults filled in', async () => {
    expect(await result('echo', '{"things":{"inner":{"text":"in"}}}')).toBe(
      '{"inner":{"text":"in","defaulted":7},"defaulted":7}',
    );
  });
});

describe('values that are accepted in another form', () => {
  test('an enum by its number', async () => {
    expect(await echoed('{"mood":1}')).toBe('{"mood":"CALM"}');
  });

  test('an i64 that fits a double as a decimal string', async () => {
    expect(await echoed('{"large":"42"}')).toBe('{"large":42}');
  });

  test('an i64 as a number with more digits than a double holds, without loss', async () => {
    expect(await echoed(`{"large":${MAX}}`)).toBe(`{"large":"${MAX}"}`);
    expect(await echoed(`{"large":${MIN}}`)).toBe(`{"large":"${MIN}"}`);
    expect(await echoed('{"large":9007199254740993}')).toBe('{"large":"9007199254740993"}');
    expect(await result('addLong', '{"a":9223372036854775806,"b":1}')).toBe(`"${MAX}"`);
    expect(await result('addLong', '[9223372036854775806,1]')).toBe(`"${MAX}"`);
  });

  test('long numbers wherever an i64 can be: lists, values and keys of maps, unions, nested structs', async () => {
    const things = `{"numbers":[${MAX}],"counts":{"a":${MAX}},"paired":[[[${MAX}],${MIN}]],"inner":{"either":{"left":${MAX}}}}`;
    expect(await result('echo', `{"things":${things}}`)).toBe(
      `{"numbers":["${MAX}"],"counts":{"a":"${MAX}"},"paired":[[["${MAX}"],"${MIN}"]],` +
        `"inner":{"either":{"left":"${MAX}"},"defaulted":7},"defaulted":7}`,
    );
  });

  test('a double with many digits stays a double, and a string of digits a string', async () => {
    expect(await result('half', '{"x":100000000000000000000}')).toBe('50000000000000000000');
    expect(await result('half', '{"x":0.25000000000000000000}')).toBe('0.125');
    expect(await echoed(`{"large":${MAX},"text":"12345678901234567890"}`)).toBe(
      `{"large":"${MAX}","text":"12345678901234567890"}`,
    );
    expect(await echoed(`{"large":${MAX},"text":"whole0:1234567890123456789"}`)).toBe(
      `{"large":"${MAX}","text":"whole0:1234567890123456789"}`,
    );
    expect(await echoed(String.raw`{"large":${MAX},"text":"a\" 12345678901234567890 \\"}`)).toBe(
      String.raw`{"large":"${MAX}","text":"a\" 12345678901234567890 \\"}`,
    );
  });
});

describe('values that are refused with -32602, their path and what was expected', () => {
  for (const [things, said] of [
    ['{"yes":1}', 'params.things.yes: expected bool, got 1'],
    ['{"tiny":128}', 'params.things.tiny: expected'],
    ['{"small":1.5}', 'params.things.small: expected'],
    ['{"middling":"seven"}', 'params.things.middling: expected i32, got "seven"'],
    ['{"middling":12345678901234567890}', 'params.things.middling: expected'],
    ['{"large":9223372036854775808}', 'params.things.large: expected'],
    ['{"large":"12x"}', 'params.things.large: expected'],
    ['{"real":"fast"}', 'params.things.real: expected'],
    ['{"text":5}', 'params.things.text: expected'],
    ['{"text":12345678901234567890}', 'params.things.text: expected'],
    ['{"bytes":"%%%"}', 'params.things.bytes: expected'],
    ['{"name":"not-a-uuid"}', 'params.things.name: expected'],
    ['{"mood":"SAD"}', 'params.things.mood: expected'],
    ['{"mood":9}', 'params.things.mood: expected'],
    ['{"words":["a","a"]}', 'params.things.words'],
    ['{"numbers":{}}', 'params.things.numbers: expected'],
    ['{"labels":{"x":"y"}}', 'params.things.labels'],
    ['{"paired":[[[1]]]}', 'params.things.paired'],
    ['{"either":{}}', 'params.things.either: expected'],
    ['{"either":{"left":1,"right":"x"}}', 'params.things.either: expected'],
    ['{"inner":{"unknown":1}}', 'params.things.inner'],
    ['{"real":1e400}', 'params.things.real: expected double'],
    ['{"real":-1e400}', 'params.things.real: expected double'],
    [`{"real":${'9'.repeat(400)}}`, 'params.things.real: expected double'],
    ['{"moods":{"CALM":1e400}}', 'params.things.moods["CALM"]: expected double'],
    ['{"middling":1e400}', 'params.things.middling: expected'],
    ['{"large":1e400}', 'params.things.large: expected'],
    ['{"numbers":[1e400]}', 'params.things.numbers[0]: expected'],
    ['{"tiny":1,"tiny":2}', 'params.things.tiny: expected each name once'],
    ['{"tiny":1,"t\\u0069ny":1}', 'params.things.tiny: expected each name once'],
    [`{"tiny":1,"tiny":2,"large":${MAX}}`, 'params.things.tiny: expected each name once'],
    ['{"inner":{"counts":{"a b":1,"a b":1}}}', 'params.things.inner.counts["a b"]: expected each name once'],
    ['{"paired":[[[1],2]],"inner":{"inner":{},"inner":{}}}', 'params.things.inner.inner: expected each name once'],
    ['{"__proto__":{},"__proto__":{}}', 'params.things.__proto__: expected each name once'],
    ['{"labels":{"1":"x","01":"y"}}', 'params.things.labels["01"]: expected i32'],
    ['{"labels":{"1":"x","+1":"y"}}', 'params.things.labels["+1"]: expected i32'],
    ['{"labels":{"0":"x","-0":"y"}}', 'params.things.labels["-0"]: expected i32'],
    ['{"labels":{"1":"x","1.0":"y"}}', 'params.things.labels["1.0"]: expected i32'],
    ['{"moods":{"CALM":1,"1":2}}', 'params.things.moods'],
    ['{"paired":[[[1],1],[[1],2]]}', 'params.things.paired[1]'],
    ['{"__proto__":{}}', 'params.things'],
    ['{"constructor":1}', 'params.things'],
    ['[]', 'params.things: expected'],
    ['null', 'params.things: expected'],
  ] as const) {
    test(things, async () => {
      const before = fixture.mesh.ran.length;
      const answer = await fixture.post(
        `{"jsonrpc":"2.0","id":1,"method":"Fixture.echo","params":{"things":${things}}}`,
      );
      expect([answer.status, answer.json.error?.code, answer.json.error?.data]).toEqual([
        200,
        -32602,
        { code: 'bad_request' },
      ]);
      expect(answer.json.error?.message).toContain(said);
      expect(fixture.mesh.ran.length).toBe(before);
    });
  }

  test('a name twice in the request, in its params, and in one request of a batch', async () => {
    const post = async (body: string): Promise<string> => (await fixture.post(body)).text;
    const ping = '"jsonrpc":"2.0","method":"Fixture.ping"';
    expect(await post(`{${ping},"id":1,"id":2}`)).toMatch(/"id":null,.*-32600,"message":"id: expected each name once/);
    expect(await post(`{${ping},"id":1,"params":{},"params":{}}`)).toMatch(/"id":1,.*-32602,"message":"params: exp/);
    expect(await post(`{${ping},"id":1,"more":[{"a":1},{"a":1,"a":1}]}`)).toMatch(
      /"id":1,.*-32600,"message":"more\[1\]\.a:/,
    );
    const batch = `[{${ping},"id":1},{${ping},"id":"b","params":{"x":1,"x":1}},{${ping},"id":3}]`;
    const answers = JSON.parse(await post(batch)) as readonly { id: unknown; error?: { message: string } }[];
    expect(answers.map(({ id, error }) => [id, error?.message])).toEqual([
      [1, undefined],
      ['b', 'params.x: expected each name once, got it twice'],
      [3, undefined],
    ]);
  });

  test('a text that looks like members and brackets is no name', async () => {
    const text = JSON.stringify('{"a":1,"a":2}\\":[{');
    expect(await echoed(`{"text":${text}}`)).toBe(`{"text":${text}}`);
  });

  test('missing required fields, and missing, surplus or unknown params', async () => {
    expect(await result('strict', '{"strict":{"may":"x"}}')).toMatch(/^200 -32602 params\.strict\.must: expected/);
    expect(await result('addLong', '{"a":1}')).toMatch(/^200 -32602 params\.b: expected/);
    expect(await result('addLong', '{"a":1,"b":2,"c":3}')).toMatch(/^200 -32602 .*"?c"?/);
    expect(await result('addLong', '[1,2,3]')).toMatch(/^200 -32602 /);
    expect(await result('addLong', '{"a":1,"b":2,"__proto__":{"c":3}}')).toMatch(/^200 -32602 /);
  });
});

test('a request with more values than can be parsed at once is refused with the limit', async () => {
  const post = async (params: string): Promise<string> =>
    (await fixture.post(`{"jsonrpc":"2.0","id":1,"method":"Fixture.echo","params":{"things":${params}}}`)).text;
  expect(await post(`{"numbers":[${'1,'.repeat(900_000)}1]}`)).toContain('"result":{"numbers":[1,1,');
  expect(await post(`{"numbers":[${'1,'.repeat(1_000_000)}1]}`)).toMatch(/-32008.*JSON values, limit is 1000000/);
  expect(await post(`[${'{},'.repeat(250_000)}{}]`)).toMatch(/-32008.*objects and arrays count as 4/);
  expect(await post(`{"text":"${'[,:'.repeat(2_000_000)}"}`)).toContain('"result":{"text":"[,:[,:');
});
