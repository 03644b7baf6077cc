// Compares two replies to the same call, of two versions of a service, by the types of their interfaces: sets and maps
// without order, doubles within a tolerance. Each reply is read by the interface of its own version, and fields are
// matched by their ids. What differs is named by its path: `hits[].score`.
//
// A comparison runs on the event loop of live calls. So it reads no reply above a size, looks at a limited number of
// values, and otherwise says that it was skipped.

import { KatamariError } from '../mod.ts';
import {
  readApplicationException,
  WireError,
  type Field,
  type Method,
  type StructType,
  type Type,
} from '../thrift/mod.ts';
import { decodeStruct } from './codec.ts';
import { exceptionName } from './json.ts';
import { isSecretField, MASKED, shortException, shortValue } from './short-text.ts';

/** A reply, and the method in the interface of the version that sent it. */
export interface MethodReply {
  readonly method: Method;
  /** True: `body` is a TApplicationException. False: the result struct. */
  readonly isException: boolean;
  readonly body: Uint8Array;
}

export interface CompareOptions {
  /** Doubles are equal if they differ by no more than this part of the larger one. Default 1e-9. */
  readonly tolerance?: number | undefined;
  /** Paths that are left out, with all below them: `hits[].score`, `totals{}`. */
  readonly ignore?: ReadonlySet<string> | undefined;
  /** Larger replies are not compared. Default 128 KiB. */
  readonly bytesMax?: number;
  /** Replies with more values are not compared. Default 50,000. */
  readonly valuesMax?: number;
}

/** A value that differs. */
export interface ReplyDifference {
  /** Path without positions: `hits[].score`, `totals{}`; `(result)` for the whole answer. */
  readonly path: string;
  /** The first place on that path: `hits[3].score`, `totals{"a"}`. */
  readonly at: string;
  /** Short JSON text of both values; '' where there is none. */
  readonly one: string;
  readonly other: string;
}

export type ReplyComparison =
  | { readonly kind: 'equal' }
  /** One difference for each path, at most 20; and the short JSON text of both answers. */
  | {
      readonly kind: 'different';
      readonly differences: readonly ReplyDifference[];
      readonly one: string;
      readonly other: string;
    }
  /** Too large to be compared. */
  | { readonly kind: 'skipped'; readonly why: string };

const TOLERANCE = 1e-9;

export function compareReplies(one: MethodReply, other: MethodReply, options: CompareOptions = {}): ReplyComparison {
  const { bytesMax = BYTES_MAX } = options;
  if (one.isException === other.isException && Buffer.compare(one.body, other.body) === 0) return { kind: 'equal' };
  const bytes = Math.max(one.body.length, other.body.length);
  if (bytes > bytesMax) return { kind: 'skipped', why: `a reply has ${bytes} bytes, limit is ${bytesMax}` };
  const answers = [answerOf(one), answerOf(other)] as const;
  const comparer = new Comparer(options);
  try {
    comparer.answers(...answers);
  } catch (thrown) {
    if (thrown instanceof TooManyValues) return { kind: 'skipped', why: thrown.message };
    throw thrown;
  }
  const differences = [...comparer.found.values()];
  if (differences.length === 0) return { kind: 'equal' };
  return {
    kind: 'different',
    differences,
    one: textOf(answers[0], ANSWER_CHARS),
    other: textOf(answers[1], ANSWER_CHARS),
  };
}

/** A reply as its caller sees it. */
type ReadAnswer =
  | { readonly kind: 'result'; readonly type: Type; readonly value: unknown }
  | { readonly kind: 'exception'; readonly field: Field; readonly value: unknown }
  | { readonly kind: 'error'; readonly type: number; readonly text: string };

function answerOf({ method, isException, body }: MethodReply): ReadAnswer {
  try {
    if (isException) {
      const { type, message } = readApplicationException(body);
      return { kind: 'error', type, text: message };
    }
    const result = decodeStruct(method.result, body);
    const field = method.throws.find(({ name }) => Object.hasOwn(result, name));
    if (field !== undefined) return { kind: 'exception', field, value: result[field.name] };
    if (method.returns.kind === 'void') return { kind: 'result', type: method.returns, value: null };
    if (!Object.hasOwn(result, 'success')) throw new WireError('the answer holds neither a result nor an exception');
    return { kind: 'result', type: method.returns, value: result['success'] };
  } catch (thrown) {
    if (!(thrown instanceof KatamariError || thrown instanceof WireError)) throw thrown;
    return { kind: 'error', type: NO_ANSWER, text: `The answer does not match its interface: ${thrown.message}` };
  }
}

function textOf(answer: ReadAnswer, charsMax: number): string {
  if (answer.kind === 'result') return shortValue(answer.type, answer.value, charsMax);
  if (answer.kind === 'exception') return shortException(answer.field, answer.value, charsMax);
  return JSON.stringify({ error: answer.text.slice(0, charsMax) });
}

class TooManyValues extends Error {}

/** Fields of two structs, matched by their ids. */
interface FieldPair {
  readonly one: Field | undefined;
  readonly other: Field | undefined;
  readonly name: string;
  readonly isSecret: boolean;
}

class Comparer {
  /** By path. */
  readonly found: Map<string, ReplyDifference> = new Map();
  readonly #tolerance: number;
  readonly #ignore: ReadonlySet<string> | undefined;
  readonly #valuesMax: number;
  #values = 0;
  /** Steps to the present value: `.name`, `[]`, `{}`; and the same with positions. */
  readonly #path: string[] = [];
  readonly #at: string[] = [];
  /** Number of secret fields around the present value. */
  #secrets = 0;
  /** While two elements are tried: whether they differ. */
  #trial: { isDifferent: boolean } | undefined;

  constructor({ tolerance = TOLERANCE, ignore, valuesMax = VALUES_MAX }: CompareOptions) {
    this.#tolerance = tolerance;
    this.#ignore = ignore === undefined || ignore.size === 0 ? undefined : ignore;
    this.#valuesMax = valuesMax;
  }

  answers(one: ReadAnswer, other: ReadAnswer): void {
    if (one.kind === 'result' && other.kind === 'result') {
      this.#compare(one.type, one.value, other.type, other.value);
    } else if (one.kind === 'exception' && other.kind === 'exception' && one.field.id === other.field.id) {
      const name = exceptionName(one.field);
      this.#inside(name, name, () => this.#compare(one.field.type, one.value, other.field.type, other.value));
    } else if (one.kind !== 'error' || other.kind !== 'error' || one.type !== other.type) {
      this.#differ(textOf(one, VALUE_CHARS), textOf(other, VALUE_CHARS));
    }
  }

  #compare(one: Type, a: unknown, other: Type, b: unknown): void {
    this.#count();
    if (this.#trial?.isDifferent === true || this.#isIgnored()) return;
    if (one.kind === 'struct' && other.kind === 'struct') {
      this.#structs(one.struct, a as Record<string, unknown>, other.struct, b as Record<string, unknown>);
    } else if (one.kind === 'list' && other.kind === 'list') {
      this.#lists(one.element, a as readonly unknown[], other.element, b as readonly unknown[]);
    } else if (one.kind === 'set' && other.kind === 'set') {
      this.#sets(one.element, a as ReadonlySet<unknown>, other.element, b as ReadonlySet<unknown>);
    } else if (one.kind === 'map' && other.kind === 'map') {
      this.#maps(one, a as ReadonlyMap<unknown, unknown>, other, b as ReadonlyMap<unknown, unknown>);
    } else if (!this.#isSameScalar(one, a, other, b)) {
      this.#differ(shortValue(one, a, VALUE_CHARS), shortValue(other, b, VALUE_CHARS));
    }
  }

  #isSameScalar(one: Type, a: unknown, other: Type, b: unknown): boolean {
    if (isWhole(one) && isWhole(other)) return BigInt(a as number | bigint) === BigInt(b as number | bigint);
    if (one.kind !== other.kind) return false;
    if (one.kind === 'double') return this.#isNear(a as number, b as number);
    if (one.kind === 'binary') return Buffer.compare(a as Buffer, b as Buffer) === 0;
    return a === b;
  }

  #isNear(a: number, b: number): boolean {
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) return true;
    return (
      Number.isFinite(a) &&
      Number.isFinite(b) &&
      Math.abs(a - b) <= this.#tolerance * Math.max(Math.abs(a), Math.abs(b))
    );
  }

  #structs(
    one: StructType,
    a: Readonly<Record<string, unknown>>,
    other: StructType,
    b: Readonly<Record<string, unknown>>,
  ): void {
    for (const pair of pairsOf(one, other)) {
      const [value, otherValue] = [read(a, pair.one), read(b, pair.other)];
      if (value === undefined && otherValue === undefined) continue;
      this.#inside(`.${pair.name}`, `.${pair.name}`, () => {
        if (pair.isSecret) this.#secrets++;
        if (value !== undefined && otherValue !== undefined)
          this.#compare((pair.one as Field).type, value, (pair.other as Field).type, otherValue);
        else if (!this.#isIgnored())
          this.#differ(shortOrNothing(pair.one?.type, value), shortOrNothing(pair.other?.type, otherValue));
        if (pair.isSecret) this.#secrets--;
      });
    }
  }

  /** The common positions, and then the first element that only one list has. */
  #lists(one: Type, a: readonly unknown[], other: Type, b: readonly unknown[]): void {
    const common = Math.min(a.length, b.length);
    for (let i = 0; i < common; i++) this.#inside('[]', `[${i}]`, () => this.#compare(one, a[i], other, b[i]));
    if (a.length === b.length) return;
    this.#inside('[]', `[${common}]`, () => {
      if (!this.#isIgnored()) this.#differ(shortOrNothing(one, a[common]), shortOrNothing(other, b[common]));
    });
  }

  #sets(one: Type, a: ReadonlySet<unknown>, other: Type, b: ReadonlySet<unknown>): void {
    this.#inside('[]', '[]', () => {
      const { onlyOne, onlyOther } = this.#match(one, [...a], other, [...b], (item) => item);
      for (let i = 0; i < Math.min(1, Math.max(onlyOne.length, onlyOther.length)); i++)
        this.#differ(shortOrNothing(one, onlyOne[i]), shortOrNothing(other, onlyOther[i]));
    });
  }

  #maps(
    one: Extract<Type, { kind: 'map' }>,
    a: ReadonlyMap<unknown, unknown>,
    other: Extract<Type, { kind: 'map' }>,
    b: ReadonlyMap<unknown, unknown>,
  ): void {
    type Entry = readonly [unknown, unknown];
    let found: Matched<Entry> | undefined;
    this.#inside('{}', '{}', () => {
      found = this.#match<Entry>(one.key, [...a], other.key, [...b], ([key]) => key);
    });
    if (found === undefined) return;
    const step = (type: Type, [key]: Entry): string =>
      `{${this.#secrets > 0 ? MASKED : shortValue(type, key, KEY_CHARS)}}`;
    for (const [entry, otherEntry] of found.pairs) {
      this.#inside('{}', step(one.key, entry), () => this.#compare(one.value, entry[1], other.value, otherEntry[1]));
    }
    for (const entry of found.onlyOne.slice(0, 1))
      this.#inside('{}', step(one.key, entry), () => this.#differ(shortValue(one.value, entry[1], VALUE_CHARS), ''));
    for (const entry of found.onlyOther.slice(0, 1))
      this.#inside('{}', step(other.key, entry), () =>
        this.#differ('', shortValue(other.value, entry[1], VALUE_CHARS)),
      );
  }

  /** Finds equal items in any order: by their exact keys, and the rest by trial, since doubles have a tolerance. */
  #match<T>(one: Type, a: readonly T[], other: Type, b: readonly T[], valueOf: (item: T) => unknown): Matched<T> {
    const result: Matched<T> = { pairs: [], onlyOne: [], onlyOther: [] };
    if (this.#isIgnored()) return result;
    const byKey = new Map<string, T[]>();
    for (const item of b) {
      const key = this.#keyOf(other, valueOf(item));
      const same = byKey.get(key);
      if (same === undefined) byKey.set(key, [item]);
      else same.push(item);
    }
    const left: T[] = [];
    for (const item of a) {
      const equal = byKey.get(this.#keyOf(one, valueOf(item)))?.pop();
      if (equal === undefined) left.push(item);
      else result.pairs.push([item, equal]);
    }
    const rest = [...byKey.values()].flat();
    // Items without doubles that have no equal key are not equal.
    const isTried = left.length * rest.length <= TRIALS_MAX && (!isExact(one) || !isExact(other));
    if (!isTried) result.onlyOne.push(...left);
    for (const item of isTried ? left : []) {
      const at = rest.findIndex((candidate) => this.#isEqual(one, valueOf(item), other, valueOf(candidate)));
      if (at === -1) result.onlyOne.push(item);
      else result.pairs.push([item, ...rest.splice(at, 1)] as [T, T]);
    }
    result.onlyOther.push(...rest);
    return result;
  }

  /** Compares without a report. */
  #isEqual(one: Type, a: unknown, other: Type, b: unknown): boolean {
    const outer = this.#trial;
    const trial = { isDifferent: false };
    this.#trial = trial;
    this.#compare(one, a, other, b);
    this.#trial = outer;
    return !trial.isDifferent;
  }

  /** A text that is equal for equal values, with exact doubles. */
  #keyOf(type: Type, value: unknown): string {
    this.#count();
    if (this.#isIgnored()) return '';
    switch (type.kind) {
      case 'list':
      case 'set': {
        const keys = [...(value as Iterable<unknown>)].map((item) => this.#keyInside('[]', type.element, item));
        return `[${(type.kind === 'set' ? keys.sort() : keys).join(',')}]`;
      }
      case 'map': {
        const entries = [...(value as ReadonlyMap<unknown, unknown>)].map(
          ([key, item]) => `${this.#keyInside('{}', type.key, key)}:${this.#keyInside('{}', type.value, item)}`,
        );
        return `{${entries.sort().join(',')}}`;
      }
      case 'struct': {
        const given = value as Readonly<Record<string, unknown>>;
        const fields = pairsOf(type.struct, type.struct).filter(({ one }) => read(given, one) !== undefined);
        const parts = fields.map(
          ({ one: field, name }) =>
            [(field as Field).id, this.#keyInside(`.${name}`, (field as Field).type, read(given, field))] as const,
        );
        return `{${parts
          .sort(([a], [b]) => a - b)
          .map(([id, key]) => `${id}:${key}`)
          .join(',')}}`;
      }
      case 'binary':
        return `"${(value as Buffer).toString('latin1')}"`;
      case 'string':
      case 'uuid':
        return JSON.stringify(value);
      case 'void':
      case 'bool':
      case 'i8':
      case 'i16':
      case 'i32':
      case 'i64':
      case 'enum':
      case 'double':
        return String(value);
    }
  }

  #keyInside(step: string, type: Type, value: unknown): string {
    let key = '';
    this.#inside(step, step, () => (key = this.#keyOf(type, value)));
    return key;
  }

  #inside(step: string, place: string, run: () => void): void {
    this.#path.push(step);
    this.#at.push(place);
    run();
    this.#path.pop();
    this.#at.pop();
  }

  #isIgnored(): boolean {
    return this.#ignore?.has(written(this.#path)) === true;
  }

  #count(): void {
    if (++this.#values > this.#valuesMax) throw new TooManyValues(`more than ${this.#valuesMax} values to compare`);
  }

  #differ(one: string, other: string): void {
    if (this.#trial !== undefined) {
      this.#trial.isDifferent = true;
      return;
    }
    const path = written(this.#path);
    if (this.found.size >= DIFFERENCES_MAX || this.found.has(path)) return;
    const shown = (text: string): string => (this.#secrets > 0 && text !== '' ? MASKED : text);
    this.found.set(path, { path, at: written(this.#at), one: shown(one), other: shown(other) });
  }
}

interface Matched<T> {
  readonly pairs: [T, T][];
  readonly onlyOne: T[];
  readonly onlyOther: T[];
}

/** The fields of two structs without those that the interface of either leaves out. Kept for the life of the types. */
function pairsOf(one: StructType, other: StructType): readonly FieldPair[] {
  let ofOne = pairs.get(one);
  if (ofOne === undefined) pairs.set(one, (ofOne = new WeakMap()));
  let made = ofOne.get(other);
  if (made !== undefined) return made;
  const matching = one.fields.map((field) => [field, other.fields.find(({ id }) => id === field.id)] as const);
  const onlyOther = other.fields.filter(({ id }) => !one.fields.some((field) => field.id === id));
  made = [...matching, ...onlyOther.map((field) => [undefined, field] as const)]
    .map(([first, second]) => {
      const both = [first, second].filter((field) => field !== undefined);
      const isSecret = both.some(isSecretField);
      return { one: first, other: second, name: both[0]?.name ?? '', isSecret, isIgnored: both.some(isIgnoredField) };
    })
    .filter(({ isIgnored }) => !isIgnored);
  ofOne.set(other, made);
  return made;
}

const pairs: WeakMap<StructType, WeakMap<StructType, readonly FieldPair[]>> = new WeakMap();

function isIgnoredField({ annotations }: Field): boolean {
  return annotations['katamari.diff'] === 'ignore';
}

function read(from: Readonly<Record<string, unknown>>, field: Field | undefined): unknown {
  return field !== undefined && Object.hasOwn(from, field.name) ? from[field.name] : undefined;
}

function shortOrNothing(type: Type | undefined, value: unknown): string {
  return type === undefined || value === undefined ? '' : shortValue(type, value, VALUE_CHARS);
}

function written(steps: readonly string[]): string {
  return steps.length === 0 ? '(result)' : steps.join('').replace(/^\./, '');
}

/** Whether equal values of a type have equal keys, as far as its kind tells. */
function isExact({ kind }: Type): boolean {
  return kind !== 'double' && kind !== 'struct' && kind !== 'list' && kind !== 'set' && kind !== 'map';
}

function isWhole({ kind }: Type): boolean {
  return kind === 'i8' || kind === 'i16' || kind === 'i32' || kind === 'i64' || kind === 'enum';
}

const BYTES_MAX: number = 128 * 1024;
const VALUES_MAX = 50_000;
/** Pairs of items of one set, or keys of one map, that are tried. */
const TRIALS_MAX = 2_500;
const DIFFERENCES_MAX = 20;
const VALUE_CHARS = 200;
const KEY_CHARS = 60;
const ANSWER_CHARS = 1_000;
/** In place of the type of a TApplicationException: the answer cannot be read. */
const NO_ANSWER = -1;
