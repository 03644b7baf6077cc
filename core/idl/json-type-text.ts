// How the values of each type are printed as JSON text. A print can stop and go on later, so the state of each open
// container is an object on a stack (`Frame`) instead of a call in JavaScript. Long texts and binaries are printed in
// parts too.

import {
  BinaryReader,
  BinaryWriter,
  WIRE_OF_KIND,
  WIRE_TYPE as WIRE,
  wireName,
  WireError,
  strictText,
  type EnumType,
  type Field,
  type StructType,
  type Type,
} from '../thrift/mod.ts';
import { keyOfText, PLAIN, SAME_LEAVES } from './codec.ts';
import { type CoderLeafKind, type MapType, notOne, readListHead, readMapHead, type SetType } from './coder.ts';
import { quote } from './fault.ts';
import { nameOfType } from './typename.ts';

/** The part that is being printed. */
export class Output {
  text = '';
  charsMax: number = Number.POSITIVE_INFINITY;

  get isFull(): boolean {
    return this.text.length >= this.charsMax;
  }
}

/** How the values of a type are printed. */
export interface TypeText {
  /** Reads a value and returns its text, or a frame that prints it. */
  print(from: BinaryReader): string | Frame;
}

/** A container that is being printed. */
export abstract class Frame {
  parent: Frame | undefined = undefined;

  /**
   * Prints as much as fits. Returns the frame that goes on: this one if the part is full, a new child, or the parent
   * at the end.
   */
  abstract step(out: Output, from: BinaryReader): Frame | undefined;

  /** The step of the path of an error in the current element. */
  abstract path(): string;

  protected child(frame: Frame): Frame {
    frame.parent = this;
    return frame;
  }
}

export function typeText(type: Type): TypeText {
  if (type.kind === 'struct') return structText(type.struct);
  let made = others.get(type);
  if (made === undefined) {
    made = makeText(type);
    others.set(type, made);
  }
  return made;
}

function makeText(type: Exclude<Type, { kind: 'struct' }>): TypeText {
  switch (type.kind) {
    case 'void':
      throw new Error('void has no values');
    case 'enum':
      return new EnumText(type.enum);
    case 'list':
    case 'set':
      return new ListText(type, type.kind === 'set');
    case 'map':
      return new MapText(type, keyOfText(type.key) === undefined ? PairsFrame : ObjectFrame);
    case 'bool':
    case 'i8':
    case 'i16':
    case 'i32':
    case 'i64':
    case 'double':
    case 'uuid':
    case 'string':
    case 'binary':
      return { print: LEAVES[type.kind] };
  }
}

export function structText(struct: StructType): StructText {
  let made = structs.get(struct);
  if (made === undefined) {
    made = new StructText(struct);
    structs.set(struct, made);
  }
  return made;
}

const structs: WeakMap<StructType, StructText> = new WeakMap();
const others: WeakMap<Type, TypeText> = new WeakMap();

const LEAVES: Readonly<Record<CoderLeafKind, (from: BinaryReader) => string | Frame>> = {
  bool: (from) => (from.byte() === 0 ? 'false' : 'true'),
  i8: (from) => `${from.i8()}`,
  i16: (from) => `${from.i16()}`,
  i32: (from) => `${from.i32()}`,
  i64(from) {
    const value = from.i64Number();
    return typeof value === 'number' ? `${value}` : `"${value}"`;
  },
  double(from) {
    const value = from.double();
    if (value === 0) return 1 / value < 0 ? '-0' : '0';
    return Number.isFinite(value) ? `${value}` : `"${value}"`;
  },
  uuid: (from) => `"${SAME_LEAVES.uuid.read(from) as string}"`,
  string(from) {
    return from.nextSize() > LONG_BYTES ? new LongText(from) : JSON.stringify(from.string());
  },
  binary(from) {
    return from.nextSize() > LONG_BYTES ? new LongBinary(from) : `"${from.base64()}"`;
  },
};

class EnumText implements TypeText {
  readonly #names: ReadonlyMap<number, string>;

  constructor({ byValue }: EnumType) {
    this.#names = new Map([...byValue].map(([value, name]) => [value, JSON.stringify(name)]));
  }

  print(from: BinaryReader): string {
    const value = from.i32();
    return this.#names.get(value) ?? `${value}`;
  }
}

/** A field with the data that its struct needs. */
interface FieldText {
  readonly field: Field;
  readonly position: number;
  readonly wire: number;
  /** `"name":` */
  readonly key: string;
  readonly type: TypeText;
  readonly isRequired: boolean;
  /** The default as JSON; undefined for none. */
  readonly defaultText: string | undefined;
}

class StructText implements TypeText {
  readonly struct: StructType;
  #fields: readonly FieldText[] | undefined;
  readonly #byId = new Map<number, FieldText>();
  /** Fields to look for at the end: required ones and those with a default. */
  watched: readonly FieldText[] = [];

  constructor(struct: StructType) {
    this.struct = struct;
  }

  print(from: BinaryReader): Frame {
    from.enter();
    return new StructFrame(this, '');
  }

  /**
   * Returns the field of this id.
   * @param next the position that it probably has, because most writers keep the order
   */
  field(id: number, next: number): FieldText | undefined {
    const fields = (this.#fields ??= this.#compile());
    const probable = fields[next];
    return probable?.field.id === id ? probable : this.#byId.get(id);
  }

  /** Created on first use, because recursive structs need each other. */
  #compile(): readonly FieldText[] {
    const fields = this.struct.fields.map((field, position): FieldText => ({
      field,
      position,
      wire: WIRE_OF_KIND[field.type.kind],
      key: `${JSON.stringify(field.name)}:`,
      type: typeText(field.type),
      isRequired: field.requiredness === 'required',
      defaultText: defaultText(field),
    }));
    for (const one of fields) this.#byId.set(one.field.id, one);
    this.watched = fields.filter((one) => one.isRequired || one.defaultText !== undefined);
    return fields;
  }
}

function defaultText({ type, defaultValue }: Field): string | undefined {
  if (defaultValue === undefined) return undefined;
  const out = new BinaryWriter();
  PLAIN.coder(type).write(out, defaultValue);
  return wholeText(typeText(type), new BinaryReader(out.finish()));
}

/** Prints a value in one piece. */
function wholeText(type: TypeText, from: BinaryReader): string {
  const printed = type.print(from);
  if (typeof printed === 'string') return printed;
  const out = new Output();
  for (let frame: Frame | undefined = printed; frame !== undefined;) frame = frame.step(out, from);
  return out.text;
}

class StructFrame extends Frame {
  readonly #plan: StructText;
  /** Name of a field that is left out. */
  readonly #omitted: string;
  /** Whether each field of the plan was there. */
  readonly #isSet: boolean[] = [];
  #current: FieldText | undefined;
  /** Position of the field that probably comes next. */
  #next = 0;
  #count = 0;
  /** What stands before the next field. */
  #lead: string;

  /** @param exception the name of an exception, which becomes the first member; '' for none */
  constructor(plan: StructText, exception: string) {
    super();
    this.#plan = plan;
    this.#omitted = exception === '' ? '' : EXCEPTION;
    this.#lead = exception === '' ? '{' : `{"${EXCEPTION}":${JSON.stringify(exception)},`;
  }

  override path(): string {
    return this.#current === undefined ? '' : `.${this.#current.field.name}`;
  }

  override step(out: Output, from: BinaryReader): Frame | undefined {
    while (!out.isFull) {
      this.#current = undefined;
      const wire = from.byte();
      if (wire === WIRE.stop) {
        this.#finish(out, from);
        return this.parent;
      }
      const id = from.i16();
      const one = this.#plan.field(id, this.#next);
      if (one === undefined) {
        from.skip(wire);
        continue;
      }
      this.#current = one;
      const { field, position } = one;
      if (wire !== one.wire) throw new WireError(`expected ${nameOfType(field.type)}, got ${wireName(wire)}`);
      if (this.#isSet[position] === true) throw new WireError('the field is there twice');
      this.#isSet[position] = true;
      this.#next = position + 1;
      this.#count++;
      if (field.name === this.#omitted) {
        from.skip(wire);
        continue;
      }
      const printed = one.type.print(from);
      if (typeof printed === 'string') this.#add(out, one, printed);
      else {
        this.#add(out, one, '');
        return this.child(printed);
      }
    }
    return this;
  }

  #add(out: Output, { key }: FieldText, value: string): void {
    out.text += this.#lead + key + value;
    this.#lead = ',';
  }

  #finish(out: Output, from: BinaryReader): void {
    const { struct, watched } = this.#plan;
    for (const one of watched) {
      if (this.#isSet[one.position] === true || one.field.name === this.#omitted) continue;
      this.#current = one;
      if (one.defaultText === undefined) {
        throw new WireError(`expected ${nameOfType(one.field.type)}, got nothing, and the field is required`);
      }
      from.spend(one.defaultText.length >> 2);
      this.#add(out, one, one.defaultText);
    }
    this.#current = undefined;
    // A newer peer may set a field that this interface does not have. Then the union holds nothing.
    if (struct.kind === 'union' && this.#count > 1) throw notOne(struct, this.#count);
    out.text += this.#lead === ',' ? '}' : `${this.#lead.replace(/,$/, '')}}`;
    from.leave();
  }
}

/** A declared exception: an object whose first member is its name. */
export class ExceptionText implements TypeText {
  readonly #plan: StructText;
  readonly #exception: string;

  constructor(plan: StructText, exception: string) {
    this.#plan = plan;
    this.#exception = exception;
  }

  print(from: BinaryReader): Frame {
    from.enter();
    return new StructFrame(this.#plan, this.#exception);
  }
}

class ListText implements TypeText {
  readonly #type: SetType;
  readonly #isSet: boolean;
  readonly #element: TypeText;
  readonly #wire: number;

  constructor(type: SetType, isSet: boolean) {
    this.#type = type;
    this.#isSet = isSet;
    this.#element = typeText(type.element);
    this.#wire = WIRE_OF_KIND[type.element.kind];
  }

  print(from: BinaryReader): Frame {
    from.enter();
    const size = readListHead(from, this.#wire, this.#type.element);
    return new ListFrame(this.#element, size, this.#isSet);
  }
}

class ListFrame extends Frame {
  readonly #element: TypeText;
  readonly #size: number;
  /** The bytes of the elements of a set. */
  readonly #seen: Set<string> | undefined;
  #start = 0;
  #i = 0;
  #hasChild = false;

  constructor(element: TypeText, size: number, isSet: boolean) {
    super();
    this.#element = element;
    this.#size = size;
    this.#seen = isSet ? new Set() : undefined;
  }

  override path(): string {
    return `[${this.#i}]`;
  }

  override step(out: Output, from: BinaryReader): Frame | undefined {
    if (this.#hasChild) this.#next(from);
    while (this.#i < this.#size) {
      if (out.isFull) return this;
      out.text += this.#i === 0 ? '[' : ',';
      this.#start = from.position;
      const printed = this.#element.print(from);
      if (typeof printed !== 'string') {
        this.#hasChild = true;
        return this.child(printed);
      }
      out.text += printed;
      this.#next(from);
    }
    out.text += this.#size === 0 ? '[]' : ']';
    from.leave();
    return this.parent;
  }

  #next(from: BinaryReader): void {
    this.#hasChild = false;
    const seen = this.#seen;
    if (seen !== undefined && seen.size === seen.add(from.keyFrom(this.#start)).size) {
      throw new WireError('the element is in the set twice');
    }
    this.#i++;
  }
}

/** Maps whose keys have a unique text form, as objects; all others as arrays of [key, value] pairs. */
class MapText implements TypeText {
  readonly #type: MapType;
  readonly #key: TypeText;
  readonly #value: TypeText;
  readonly #Frame: typeof ObjectFrame | typeof PairsFrame;

  constructor(type: MapType, frame: typeof ObjectFrame | typeof PairsFrame) {
    this.#type = type;
    this.#key = typeText(type.key);
    this.#value = typeText(type.value);
    this.#Frame = frame;
  }

  print(from: BinaryReader): Frame {
    from.enter();
    return new this.#Frame(this.#key, this.#value, readMapHead(from, this.#type));
  }
}

class ObjectFrame extends Frame {
  readonly #key: TypeText;
  readonly #value: TypeText;
  readonly #size: number;
  readonly #seen = new Set<string>();
  #text = '';
  #i = 0;

  constructor(key: TypeText, value: TypeText, size: number) {
    super();
    this.#key = key;
    this.#value = value;
    this.#size = size;
  }

  override path(): string {
    return this.#text === '' ? '[key]' : `[${cutQuote(this.#text)}]`;
  }

  override step(out: Output, from: BinaryReader): Frame | undefined {
    while (this.#i < this.#size) {
      if (out.isFull) return this;
      this.#text = '';
      const key = wholeText(this.#key, from);
      this.#text = key.startsWith('"') ? key : `"${key}"`;
      if (this.#seen.size === this.#seen.add(this.#text).size) throw new WireError('the key is in the map twice');
      out.text += `${this.#i === 0 ? '{' : ','}${this.#text}:`;
      this.#i++;
      const printed = this.#value.print(from);
      if (typeof printed !== 'string') return this.child(printed);
      out.text += printed;
    }
    out.text += this.#size === 0 ? '{}' : '}';
    from.leave();
    return this.parent;
  }
}

class PairsFrame extends Frame {
  readonly #parts: readonly [TypeText, TypeText];
  readonly #size: number;
  readonly #seen = new Set<string>();
  #start = 0;
  /** Keys and values that were begun. */
  #begun = 0;

  constructor(key: TypeText, value: TypeText, size: number) {
    super();
    this.#parts = [key, value];
    this.#size = size;
  }

  override path(): string {
    return `[${Math.max(0, this.#begun - 1) >> 1}]`;
  }

  override step(out: Output, from: BinaryReader): Frame | undefined {
    while (this.#begun < this.#size * 2) {
      if (out.isFull) return this;
      const isValue = this.#begun % 2 === 1;
      if (isValue) this.#checkKey(from);
      else this.#start = from.position;
      out.text += isValue ? ',' : this.#begun === 0 ? '[[' : '],[';
      this.#begun++;
      const printed = this.#parts[isValue ? 1 : 0].print(from);
      if (typeof printed !== 'string') return this.child(printed);
      out.text += printed;
    }
    out.text += this.#size === 0 ? '[]' : ']]';
    from.leave();
    return this.parent;
  }

  #checkKey(from: BinaryReader): void {
    if (this.#seen.size === this.#seen.add(from.keyFrom(this.#start)).size) {
      throw new WireError('the key is in the map twice');
    }
  }
}

/** A text or binary that is too long to be printed at once. */
abstract class LongLeaf extends Frame {
  readonly #end: number;
  #hasBegun = false;

  constructor(from: BinaryReader) {
    super();
    const length = from.size(1);
    this.#end = from.position + length;
  }

  override path(): string {
    return '';
  }

  override step(out: Output, from: BinaryReader): Frame | undefined {
    if (!this.#hasBegun) out.text += '"';
    this.#hasBegun = true;
    while (from.position < this.#end) {
      if (out.isFull) return this;
      out.text += this.part(from, Math.min(this.#end, from.position + PART_BYTES), this.#end);
    }
    out.text += '"';
    return this.parent;
  }

  /** Reads bytes up to `partEnd` or a little less, and returns their text. The value ends at `end`. */
  protected abstract part(from: BinaryReader, partEnd: number, end: number): string;
}

/** Is cut between characters. */
class LongText extends LongLeaf {
  protected override part(from: BinaryReader, partEnd: number, end: number): string {
    const start = from.position;
    let cut = partEnd;
    while (cut < end && cut > start + 1 && isContinuation(from.buffer[cut] as number)) cut--;
    const text = strictText(from.buffer, start, cut);
    if (text === undefined) throw new WireError('expected text in UTF-8, got other bytes');
    from.position = cut;
    return JSON.stringify(text).slice(1, -1);
  }
}

class LongBinary extends LongLeaf {
  protected override part(from: BinaryReader, partEnd: number): string {
    const text = from.buffer.toString('base64', from.position, partEnd);
    from.position = partEnd;
    return text;
  }
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

function cutQuote(text: string): string {
  return quote(JSON.parse(text) as string);
}

const EXCEPTION = 'exception';
export const NULL_TEXT: TypeText = { print: () => 'null' };
/** Longer texts and binaries are printed in parts. */
const LONG_BYTES = 65_536;
/** Bytes of such a part: a multiple of 3, so that base64 can be joined. */
const PART_BYTES = 49_152;
