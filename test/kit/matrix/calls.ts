// The calls of the matrix and their expected replies: every type of test/fixtures/matrix/mirror.thrift with its
// extreme values, as handlers see them. The replies are known in advance, because most methods echo their argument.
import { decodeStruct, encodeStruct, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import type { Method, Type } from '../../../core/thrift/mod.ts';
import path from 'node:path';
import { REPOSITORY } from '../tools/repository.ts';

export const MATRIX: string = path.join(REPOSITORY, 'test', 'fixtures', 'matrix');
export const MIRROR_IDL: string = path.join(MATRIX, 'mirror.thrift');

export interface MatrixCall {
  /** Method and variant, for the table and for its exceptions. */
  readonly title: string;
  readonly method: Method;
  readonly args: Readonly<Record<string, unknown>>;
  /** The expected reply, as text in the format of `answerOf`. */
  readonly expected: string;
}

const service = parseIdl(readIdlFile(MIRROR_IDL)).services.get('Mirror');

/** @param note unique to each run of the calls: a later call asks whether it was noted */
export function matrixCalls(note = 'a note'): MatrixCall[] {
  const calls: MatrixCall[] = [];
  const add = (title: string, args: Readonly<Record<string, unknown>>, expected: string): void => {
    const name = title.split(/[ ,]/, 1)[0] ?? '';
    const method = service?.methods.get(name);
    if (method === undefined) throw new Error(`the Mirror has no method ${name}`);
    calls.push({ title, method, args, expected });
  };
  const back = (title: string, ...values: readonly unknown[]): void => {
    for (const value of values) {
      const method = service?.methods.get(title.split(/[ ,]/, 1)[0] ?? '');
      if (method === undefined) throw new Error(`the Mirror has no method for ${title}`);
      // The receiver of a struct sees defaults, whether or not they were sent.
      const seen = decodeStruct(method.args, encodeStruct(method.args, { value }));
      add(title, { value }, returned(method.returns, seen['value']));
    }
  };
  const number = (method: string, value: unknown): string => returned(typeOf(method), value);

  add('nothing', {}, 'ok');
  add('successor', { number: -1 }, number('successor', 0));
  add('successor', { number: 2_147_483_646 }, number('successor', 2_147_483_647));
  add(
    'difference',
    { minuend: 1n, subtrahend: 9_223_372_036_854_775_807n },
    number('difference', -9_223_372_036_854_775_806n),
  );
  back('flag', true, false);
  back('tiny', -128, -1, 0, 127);
  back('small', -32_768, -1, 0, 32_767);
  back('normal', -2_147_483_648, -1, 0, 2_147_483_647);
  back('big', -(2n ** 63n), -(2n ** 53n) - 1n, -1n, 0n, 2n ** 31n, 2n ** 63n - 1n);
  back(
    'real',
    0,
    1.5,
    -1.1,
    0.1 + 0.2,
    5e-324,
    2.225_073_858_507_201_4e-308,
    1.797_693_134_862_315_7e308,
    1e21,
    123_456_789,
  );
  back('real minus zero', -0);
  back('real NaN', NaN);
  back('real infinite', Infinity, -Infinity);
  back('text', '', 'plain', 'Käse, 乳酪, 🧀 and \u{10ffff}', ' "quoted" \\back\\slashed/ \' ', '[{"1":{"i32":5}}]');
  back('text of control characters', '\t\n\r\b\f', '\u0001\u001f\u007f');
  back('text with NUL', 'a\u0000b', '\u0000');
  back('text, long', 'ß'.repeat(5_000));
  back('bytes', Buffer.alloc(0), Buffer.from('plain'), Buffer.from([0]), EVERY_BYTE, Buffer.from([0xff, 0xfe]));
  back('bytes, long', Buffer.alloc(10_001, EVERY_BYTE));
  back('colour', 0, 5, 6);
  back(
    'tables',
    [],
    [new Map()],
    [
      new Map([['a', 1]]),
      new Map([
        ['b', -2],
        ['', 0],
      ]),
    ],
  );
  back('numbers', LEAST, MOST);
  back('texts', TEXTS, { text: '', bytes: Buffer.alloc(0), level: -2_147_483_648 });
  back('tree', { value: 0, children: [] }, TREE, deepTree(30));
  back('choice', { number: 7 }, { text: 'é' }, { tree: TREE }, { bytes: EVERY_BYTE }, { colour: 5 }, CHOICES);
  back('containers', CONTAINERS);
  back('containers, empty', EMPTY_CONTAINERS);
  back('containers, most', MOST_CONTAINERS);
  back('containers, large', { ...EMPTY_CONTAINERS, normals: Array.from({ length: 2_000 }, (_, i) => i * -1_000_003) });
  back('indexed', INDEXED);
  back('indexed, empty', {
    byBig: new Map(),
    byFlag: new Map(),
    byReal: new Map(),
    byColour: new Map(),
    byBytes: new Map(),
    bigs: new Set(),
    blobs: new Set(),
  });
  back('keyed', {
    keys: new Set([
      { name: 'a', number: 1 },
      { name: '', number: -1 },
    ]),
    byKey: new Map([
      [{ name: 'a', number: 1 }, [1, 2]],
      [{ name: 'b', number: 2 }, []],
    ]),
  });
  back('keyed, empty', { keys: new Set(), byKey: new Map() });
  back('defaults', DEFAULTS, { ...DEFAULTS, note: '', words: [], sizes: new Map(), colour: 0, on: false });
  back('empty', {});
  back('whole', WHOLE);
  back('whole, most', { ...WHOLE, containers: MOST_CONTAINERS });
  for (const code of [0, 1, 2]) {
    const thrown = code === 0 ? undefined : code === 1 ? REFUSED : BROKEN;
    add(`refuse ${code}`, { code }, thrown ?? number('refuse', '0'));
    add(`forbid ${code}`, { code }, thrown ?? 'ok');
  }
  add('fail', { why: 'nobody declared this' }, 'error');
  add('noted before', { value: note }, number('noted', false));
  add('note', { value: note }, 'ok');
  add('noted after', { value: note }, number('noted', true));
  return calls;
}

/** Input for the clients, one line a call: method, argument names, the argument struct in strict binary. */
export function callLines(calls: readonly MatrixCall[]): string {
  return calls
    .map(({ method, args }) => {
      const names = method.args.fields.map(({ name }) => name).join(',') || '-';
      return `${method.name} ${names} ${encodeStruct(method.args, args).toString('hex')}\n`;
    })
    .join('');
}

/**
 * Converts a client's output for a call (`ok HEX`, `threw NAME HEX`, `error TYPE MESSAGE`, `broken WHY`) to the
 * format of `expected`.
 */
export function answerOf(method: Method, said: string): string {
  const [kind = '', first = '', second = ''] = said.split(' ');
  try {
    if (kind === 'ok') {
      const success = method.result.fields.find(({ id }) => id === 0);
      if (success === undefined) return first === '00' ? 'ok' : `ok with ${first}`;
      const value = decodeStruct(method.result, Buffer.from(first, 'hex'))[success.name];
      return value === undefined ? 'ok without a result' : returned(success.type, value);
    }
    if (kind === 'threw') {
      const type = method.throws.map((field) => field.type).find((one) => bareName(one) === first);
      if (type?.kind !== 'struct') return `threw ${first}, which is not declared`;
      return `threw ${first} ${canonical(type, decodeStruct(type.struct, Buffer.from(second, 'hex')))}`;
    }
  } catch (error) {
    return `unreadable: ${(error as Error).message}`;
  }
  // The message of an undeclared exception differs from server to server.
  return kind === 'error' && method.name === 'fail' ? 'error' : said;
}

/** `ok` and the value of a result. */
export function returned(type: Type, value: unknown): string {
  return type.kind === 'void' ? 'ok' : `ok ${canonical(type, value)}`;
}

/**
 * JSON with sorted keys; bytes in hex, doubles by their bits, i64 as text, sets and maps in the order of their texts.
 */
export function canonical(type: Type, value: unknown): string {
  switch (type.kind) {
    case 'double': {
      if (Number.isNaN(value)) return '"NaN"';
      const bits = Buffer.alloc(8);
      bits.writeDoubleBE(value as number);
      return `"${bits.toString('hex')}"`;
    }
    case 'i64':
      return `"${String(value)}"`;
    case 'binary':
      return `"${Buffer.from(value as Uint8Array).toString('hex')}"`;
    case 'struct': {
      const fields = value as Readonly<Record<string, unknown>>;
      const parts = type.struct.fields
        .filter(({ name }) => fields[name] !== undefined)
        .map((field) => `${JSON.stringify(field.name)}:${canonical(field.type, fields[field.name])}`);
      return `{${parts.sort().join()}}`;
    }
    case 'list':
      return `[${(value as readonly unknown[]).map((part) => canonical(type.element, part)).join()}]`;
    case 'set':
      return `[${[...(value as ReadonlySet<unknown>)]
        .map((part) => canonical(type.element, part))
        .sort()
        .join()}]`;
    case 'map':
      return `[${[...(value as ReadonlyMap<unknown, unknown>)]
        .map(([key, part]) => `[${canonical(type.key, key)},${canonical(type.value, part)}]`)
        .sort()
        .join()}]`;
    case 'void':
    case 'bool':
    case 'i8':
    case 'i16':
    case 'i32':
    case 'enum':
    case 'string':
    case 'uuid':
      return JSON.stringify(value) ?? 'undefined';
  }
}

function typeOf(method: string): Type {
  return service?.methods.get(method)?.returns ?? { kind: 'void' };
}

/** The name without its file. */
function bareName(type: Type): string {
  return type.kind === 'struct' ? (type.struct.name.split('.').at(-1) ?? '') : '';
}

function deepTree(depth: number): object {
  return { value: depth, children: depth === 0 ? [] : [deepTree(depth - 1)] };
}

const EVERY_BYTE = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
const TREE = {
  value: 1,
  children: [
    { value: -2, children: [] },
    { value: 3, children: [{ value: 4, children: [] }] },
  ],
};
const LEAST = {
  flag: false,
  tiny: -128,
  octet: -128,
  small: -32_768,
  normal: -2_147_483_648,
  big: -(2n ** 63n),
  real: -1.797_693_134_862_315_7e308,
};
const MOST = {
  flag: true,
  tiny: 127,
  octet: 127,
  small: 32_767,
  normal: 2_147_483_647,
  big: 2n ** 63n - 1n,
  real: 5e-324,
};
const TEXTS = { text: 'Größe 大小 📏', bytes: EVERY_BYTE, colour: 6, level: 2_147_483_647 };
const CHOICES = { choices: [{ number: 1 }, { choices: [{ text: 'inner' }, { choices: [] }] }, { tree: TREE }] };
const EMPTY_CONTAINERS = {
  flags: [],
  tinies: [],
  smalls: [],
  normals: [],
  bigs: [],
  reals: [],
  words: [],
  blobs: [],
  colours: [],
  structs: [],
  names: new Set(),
  ids: new Set(),
  trees: new Map(),
  byNumber: new Map(),
  lists: new Map(),
  choices: new Map(),
  deep: [],
  tables: [],
  nested: new Map(),
  sets: [],
};
const CONTAINERS = {
  flags: [true, false, true, true],
  tinies: [-128, 0, 127],
  smalls: [-32_768, 0, 32_767],
  normals: [-2_147_483_648, 0, 2_147_483_647],
  bigs: [-(2n ** 63n), 0n, 2n ** 63n - 1n],
  reals: [-1.5, 0, 1e300],
  words: ['', 'a', 'ü', '🧀'],
  blobs: [Buffer.alloc(0), EVERY_BYTE],
  colours: [6, 0, 5],
  structs: [LEAST, MOST],
  names: new Set(['', 'x', 'ö']),
  ids: new Set([-1, 0, 1, 2_147_483_647]),
  trees: new Map([
    ['one', TREE],
    ['', { value: 0, children: [] }],
  ]),
  byNumber: new Map([
    [-1, 'minus'],
    [0, ''],
    [2_147_483_647, 'most'],
  ]),
  lists: new Map<string, number[]>([
    ['a', [1, 2]],
    ['b', []],
  ]),
  choices: new Map<string, object>([
    ['n', { number: -1 }],
    ['t', { text: '' }],
  ]),
  deep: [[], [[]], [[1], [2, 3], []]],
  tables: [new Map([['k', 1]]), new Map()],
  nested: new Map([
    [
      -1,
      new Map([
        [1, new Set(['a', 'b'])],
        [-128, new Set()],
      ]),
    ],
    [300, new Map()],
  ]),
  sets: [new Set([1, 2]), new Set(), new Set([-32_768])],
};
/** Without the values that the Node package gets wrong, see languages.ts. */
const MOST_CONTAINERS = { ...CONTAINERS, flags: [], deep: [[[1]]] };
const INDEXED = {
  byBig: new Map([
    [-(2n ** 63n), 'least'],
    [2n ** 53n + 1n, 'not a double'],
    [0n, 'zero'],
  ]),
  byFlag: new Map([
    [true, 1.5],
    [false, -0.5],
  ]),
  byReal: new Map([
    [0.5, 'half'],
    [-1.25, ''],
    [1e100, 'much'],
  ]),
  byColour: new Map([
    [0, 1],
    [6, 2],
  ]),
  byBytes: new Map([
    [Buffer.from('ab'), 1],
    [Buffer.from([0, 255]), 2],
  ]),
  bigs: new Set([1n, -(2n ** 62n) - 1n]),
  blobs: new Set([Buffer.from('x'), Buffer.from([254, 0])]),
};
const DEFAULTS = {
  name: 'n',
  note: 'given',
  count: -7,
  colour: 6,
  words: ['three'],
  sizes: new Map([['b', 2n ** 60n]]),
  pair: { name: 'q', number: 9 },
  on: true,
  far: 16_000,
  farthest: 'end',
};
const PART = {
  numbers: MOST,
  texts: TEXTS,
  containers: EMPTY_CONTAINERS,
  choice: { number: 0 },
  defaults: DEFAULTS,
  parts: [],
};
const WHOLE = {
  ...PART,
  numbers: LEAST,
  containers: CONTAINERS,
  choice: CHOICES,
  parts: [PART, { ...PART, parts: [PART] }],
};
const REFUSED = 'threw Refused {"code":1,"level":-1,"why":"refused"}';
const BROKEN = 'threw Broken {"tree":{"children":[{"children":[],"value":2}],"value":1},"why":"broken"}';
