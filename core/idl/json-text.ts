// Prints values in strict binary as JSON text, by the table in docs/idl.md, without JavaScript values in between. The
// text differs from that of `JSON.stringify` over decoded values in one point: a double keeps the sign of zero.
//
// A print stops after about as many characters as its caller wants and goes on later, so a large answer never holds
// the event loop. json-type-text.ts prints the values of each type.

import {
  BinaryReader,
  WIRE_OF_KIND,
  WIRE_TYPE as WIRE,
  wireName,
  WireError,
  at,
  type Field,
  type Method,
  type StructType,
} from '../thrift/mod.ts';
import { refusal } from './codec.ts';
import { doesNotMatch, exceptionName } from './json.ts';
import { ExceptionText, type Frame, NULL_TEXT, Output, structText, typeText, type TypeText } from './json-type-text.ts';
import { nameOfType } from './typename.ts';

/** The answer of a method as JSON text. */
export interface JsonTextResult {
  /** The unqualified name of a declared exception; '' for a result. */
  readonly exception: string;
  /** Name and first text field of a declared exception: `InvalidOperation: Cannot divide by 0`. */
  readonly message: string;
  /** The result; for an exception, an object with its name as `exception` and its fields. */
  readonly text: JsonText;
}

/**
 * Prepares the JSON text of a result struct. Printing it may throw.
 * @throws KatamariError resource_failed if the result does not match the chassis' own interface
 */
export function resultText(method: Method, result: Uint8Array): JsonTextResult {
  const from = new BinaryReader(result);
  try {
    from.enter();
    const field = knownField(method, from);
    if (field === undefined) {
      if (method.returns.kind === 'void') return plain(new JsonText(method, from, 'success', NULL_TEXT));
      throw new WireError(`expected ${nameOfType(method.returns)} or an exception, got neither`);
    }
    if (!method.throws.includes(field) || field.type.kind !== 'struct') {
      return plain(new JsonText(method, from, field.name, typeText(field.type)));
    }
    const exception = exceptionName(field);
    const message = messageOf(field.type.struct, new BinaryReader(result.subarray(from.position)));
    const type = new ExceptionText(structText(field.type.struct), exception);
    return {
      exception,
      message: message === '' ? exception : `${exception}: ${message}`,
      text: new JsonText(method, from, field.name, type),
    };
  } catch (thrown) {
    throw doesNotMatch(method, refusal(thrown, 'result', method.result));
  }
}

function plain(text: JsonText): JsonTextResult {
  return { exception: '', message: '', text };
}

/** Reads up to the value of the first field that this interface knows; undefined for none, before the stop byte. */
function knownField(method: Method, from: BinaryReader): Field | undefined {
  for (let wire = from.byte(); wire !== WIRE.stop; wire = from.byte()) {
    const id = from.i16();
    const field = method.result.fields.find((one) => one.id === id);
    if (field === undefined) from.skip(wire);
    else if (wire === WIRE_OF_KIND[field.type.kind]) return field;
    else throw at(new WireError(`expected ${nameOfType(field.type)}, got ${wireName(wire)}`), `.${field.name}`);
  }
  from.position--;
  return undefined;
}

/** Returns the field `message` of an exception, or else its first text. */
function messageOf(struct: StructType, from: BinaryReader): string {
  let first = '';
  for (let wire = from.byte(); wire !== WIRE.stop; wire = from.byte()) {
    const id = from.i16();
    const field = struct.fields.find((one) => one.id === id);
    if (field === undefined || wire !== WIRE.string || field.type.kind === 'binary') from.skip(wire);
    else {
      const text = from.string();
      if (field.name === 'message') return text;
      first ||= text;
    }
  }
  return first;
}

/** The text of one answer, printed in parts. */
export class JsonText {
  readonly #method: Method;
  readonly #from: BinaryReader;
  readonly #field: string;
  readonly #type: TypeText;
  readonly #out: Output = new Output();
  #frame: Frame | undefined;
  #hasBegun = false;

  constructor(method: Method, from: BinaryReader, field: string, type: TypeText) {
    this.#method = method;
    this.#from = from;
    this.#field = field;
    this.#type = type;
  }

  /** Bytes of the value in strict binary. */
  get bytes(): number {
    return this.#from.end;
  }

  /** Whether all is printed. */
  get isDone(): boolean {
    return this.#hasBegun && this.#frame === undefined;
  }

  /**
   * Returns the next part of the text, of about `charsMax` characters unless it is the last one (`isDone`).
   * @throws KatamariError resource_failed if the value does not match its type
   */
  next(charsMax: number): string {
    const out = this.#out;
    const from = this.#from;
    out.charsMax = charsMax;
    out.text = '';
    try {
      if (!this.#hasBegun) {
        const printed = this.#type.print(from);
        this.#hasBegun = true;
        if (typeof printed === 'string') out.text = printed;
        else this.#frame = printed;
      }
      while (this.#frame !== undefined && !out.isFull) this.#frame = this.#frame.step(out, from);
      if (this.#frame === undefined) this.#end();
    } catch (thrown) {
      for (let frame = this.#frame; frame !== undefined; frame = frame.parent) at(thrown, frame.path());
      throw doesNotMatch(this.#method, refusal(at(thrown, `.${this.#field}`), 'result', this.#method.result));
    }
    return out.text;
  }

  /** Returns the whole text. */
  all(): string {
    return this.next(Number.POSITIVE_INFINITY);
  }

  /** Checks what follows the value. */
  #end(): void {
    const from = this.#from;
    if (knownField(this.#method, from) !== undefined) throw new WireError('expected one result, got several');
    from.position++;
    if (from.position < from.end) throw new WireError(`${from.end - from.position} bytes follow after the end`);
  }
}
