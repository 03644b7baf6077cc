// Random IDL text of every construct that Debian's Thrift compiler accepts: enums, typedefs, constants and defaults
// of every kind, structs, unions, exceptions and services that extend others, with separators, comments and
// annotations between them. A name is always defined before it is used, because compilers resolve values immediately.

import * as fc from 'fast-check';

/** IDL text with a service `S` that reaches every type in it. */
export const anyDefinitions: fc.Arbitrary<string> = fc.gen().map((gen) => new Inventor(gen).write());

type Gen = fc.GeneratorValue;

/** A type as IDL text, and the values that it may have. */
interface Shape {
  readonly text: string;
  /** The text of a value. Equal numbers give equal values, different numbers different ones. */
  readonly value: ((n: number) => string) | undefined;
  /** Whether it can be in a set or be a map key: equal values have equal text. */
  readonly isPlain: boolean;
}

class Inventor {
  readonly #gen: Gen;
  readonly #shapes: Shape[] = [];
  readonly #lines: string[] = [];
  readonly #exceptions: string[] = [];

  constructor(gen: Gen) {
    this.#gen = gen;
    for (const [text, value] of SCALARS) this.#shapes.push({ text, value: (n) => this.#one(value(n)), isPlain: true });
    this.#shapes.push({ text: 'double', value: (n) => this.#one([`${n}.5`, `-${n}e2`, `.${n}25`]), isPlain: false });
  }

  write(): string {
    const makers = [
      (i: number) => this.#enum(i),
      (i: number) => this.#typedef(i),
      (i: number) => this.#struct(i),
      (i: number) => this.#union(i),
      (i: number) => this.#constant(i),
    ];
    const count = this.#below(12);
    for (let i = 0; i < count; i++) this.#one(makers)(i);
    this.#lines.push(`exception X0 { 1: string why${this.#annotation()}}`);
    this.#exceptions.push('X0');
    const parent = this.#chance() ? ' extends P' : '';
    if (parent !== '') this.#lines.push(`service P {${this.#methods('p')}}`);
    this.#lines.push(`service S${parent} {${this.#methods('s')} void all(${this.#fields(this.#shapes, 'a')}) }`);
    return `${this.#lines.join(this.#one(['\n', '\n\n# a comment\n', '\n/** a doc */ ', '\n// { another\n']))}\n`;
  }

  #enum(i: number): void {
    const names = ['A', 'B', 'constructor', 'D'];
    const start = this.#one([0, 0x10, -4]);
    const members = names.map((name, n) => {
      const number =
        n === 0 || this.#chance() ? ` = ${this.#one([String(start + n * 3), hex(start + n * 3)])}` : undefined;
      return { name, text: `${name}${number ?? ''}${this.#annotation()}`, isNumbered: number !== undefined };
    });
    this.#lines.push(
      `enum E${i} { ${members.map(({ text }) => text + this.#separator()).join(' ')} }${this.#annotation()}`,
    );
    this.#shapes.push({ text: `E${i}`, value: (n) => `E${i}.${names[n % 4] ?? ''}`, isPlain: false });
  }

  #typedef(i: number): void {
    const shape = this.#shape(2);
    this.#lines.push(`typedef ${shape.text} T${i}`);
    this.#shapes.push({ ...shape, text: `T${i}` });
  }

  #constant(i: number): void {
    const shape = this.#shape(3);
    if (shape.value === undefined) return;
    this.#lines.push(`const ${shape.text} C${i} = ${shape.value(i)}${this.#separator()}`);
    // A constant of a scalar type can be named where a value of that type is expected.
    if (shape.isPlain) this.#shapes.push({ text: shape.text, value: () => `C${i}`, isPlain: false });
  }

  #struct(i: number): void {
    const shapes = Array.from({ length: this.#below(4) }, () => this.#shape(2));
    this.#lines.push(
      `struct S${i} { ${this.#fields(shapes, 'f')} 99: optional S${i} below 98: optional list<S${i}> more }${this.#annotation()}`,
    );
    const isPossible = shapes.every(({ value }) => value !== undefined);
    // Values omit fields 98 and 99. They give all others, because any of those may be required.
    const value = (n: number): string =>
      `{${shapes.map((shape, f) => `"f${f}": ${shape.value?.(n) ?? ''}`).join(this.#one([', ', '; ', ' ']))}}`;
    this.#shapes.push({ text: `S${i}`, value: isPossible ? value : undefined, isPlain: false });
  }

  #union(i: number): void {
    const shape = this.#shape(2);
    this.#lines.push(`union U${i} { 1: ${shape.text} f0 2: bool other 3: list<U${i}> more }`);
    const value = (n: number): string => this.#one([`{"f0": ${shape.value?.(n) ?? ''}}`, '{"other": true}']);
    this.#shapes.push({ text: `U${i}`, value: shape.value && value, isPlain: false });
  }

  #methods(prefix: string): string {
    return Array.from({ length: this.#below(3) }, (_, m) => {
      const args = this.#fields(
        Array.from({ length: this.#below(3) }, () => this.#shape(2)),
        'a',
      );
      if (this.#chance()) return ` oneway void ${prefix}${m}(${args})${this.#separator()}`;
      const throws = this.#chance() ? ` throws (1: ${this.#one(this.#exceptions)} x)` : '';
      const returns = this.#one(['void', this.#shape(2).text]);
      return ` ${returns} ${prefix}${m}(${args})${throws}${this.#annotation()}${this.#separator()}`;
    }).join('');
  }

  #fields(shapes: readonly Shape[], prefix: string): string {
    return shapes
      .map((shape, f) => {
        const id = this.#one([`${f + 1}: `, `${f + 1} : `, `${hex(f + 1)}: `]);
        const requiredness = this.#one(['', 'required ', 'optional ']);
        const value = shape.value !== undefined && this.#chance() ? ` = ${shape.value(f)}` : '';
        return `${id}${requiredness}${shape.text} ${prefix}${f}${value}${this.#annotation()}${this.#separator()}`;
      })
      .join(' ');
  }

  #shape(depth: number): Shape {
    const kind = depth > 0 ? this.#below(6) : 0;
    if (kind < 3) return this.#one(this.#shapes);
    const [open, close] = kind === 5 ? ['{', '}'] : ['[', ']'];
    const element = kind === 3 ? this.#shape(depth - 1) : this.#one(this.#shapes.filter(({ isPlain }) => isPlain));
    const inside = kind === 5 ? this.#shape(depth - 1) : undefined;
    const text =
      kind === 5 ? `map<${element.text}, ${inside?.text ?? ''}>` : `${kind === 3 ? 'list' : 'set'}<${element.text}>`;
    const isPossible = element.value !== undefined && (inside === undefined || inside.value !== undefined);
    const value = (n: number): string => {
      const parts = Array.from({ length: this.#below(3) }, (_, part) => {
        const first = element.value?.(n + part) ?? '';
        return inside === undefined ? first : `${first}: ${inside.value?.(n) ?? ''}`;
      });
      return `${open}${parts.join(this.#one([', ', '; ', ' ']))}${close}`;
    };
    return { text, value: isPossible ? value : undefined, isPlain: false };
  }

  #annotation(): string {
    return this.#one(['', '', '', ' (a.b = "x", c)', " (d = 'y';)"]);
  }

  #separator(): string {
    return this.#one(['', ',', ';', ' /* , */']);
  }

  #one<T>(from: readonly T[]): T {
    return from[this.#below(from.length)] as T;
  }

  #below(end: number): number {
    return this.#gen(fc.nat, { max: end - 1 });
  }

  #chance(): boolean {
    return this.#gen(fc.boolean);
  }
}

/**
 * Spellings of the n-th value of each type. Different n give different values, except for bool. A set or a map key
 * never holds two bools.
 */
const SCALARS: readonly (readonly [type: string, value: (n: number) => readonly string[]])[] = [
  ['i8', (n) => [String(n), hex(n), `+${n}`]],
  ['byte', (n) => [String(-n)]],
  ['i16', (n) => [String(n * 1000), hex(n * 1000)]],
  ['i32', (n) => [String(-n * 100_000_000), hex(-n * 100_000_000)]],
  [
    'i64',
    (n) => [String(9_223_372_036_854_775_807n - BigInt(n)), String(-9_007_199_254_740_993n - BigInt(n))].slice(n % 2),
  ],
  [
    'string',
    (n) => [
      `"text ${n} with 'quotes', \\"others\\", \\\\ and \\n"`,
      `'text ${n} with \\'quotes\\', "others", \\\\ and \\n'`,
    ],
  ],
  ['binary', (n) => [`"bytes ${n} ünïcödé ☃"`, `'bytes ${n} ünïcödé ☃'`]],
];

function hex(number: number): string {
  return `${number < 0 ? '-' : ''}0x${Math.abs(number).toString(16)}`;
}
