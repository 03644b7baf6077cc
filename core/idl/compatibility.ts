// Compares two states of an interface, and judges for each change whether old and new callers and chassis understand
// each other. It judges by the wire format: fields by number and type, where readers skip unknown fields and use
// defaults for absent ones. Names matter only to JSON callers, which get a verdict of their own. The writer and the
// reader of a value have different states: old callers write old arguments and read new results.

import type { EnumType, Field, Interface, Method, StructType, Type } from '../thrift/mod.ts';
import { defaultText } from './diff.ts';
import { nameOfType } from './typename.ts';

/**
 * - fine: nothing is lost.
 * - json: affects only JSON-RPC callers, which use names.
 * - sometimes: breaks when that value or exception occurs.
 * - breaks: every such call fails or is misread.
 */
export type Compatibility = 'fine' | 'json' | 'sometimes' | 'breaks';

export interface Change {
  /** Where: `add: parameter 2 num2`. */
  readonly where: string;
  /** What: `i32 became i64`. */
  readonly what: string;
  /** Verdict for old callers of a new chassis. */
  readonly oldCallers: Compatibility;
  /** Verdict for new callers of an old chassis, during a rollout. */
  readonly newCallers: Compatibility;
  /** What goes wrong; '' for nothing. */
  readonly why: string;
}

/**
 * Returns the changes between two states of a service, in the order of the old one; empty if the wire format is
 * equal.
 */
export function changesBetween(older: Interface, newer: Interface): Change[] {
  return new Judge().interfaces(older, newer);
}

/** Direction of a value. */
type Flow = 'to chassis' | 'to caller';

class Judge {
  readonly #changes: Change[] = [];
  /** Types that were compared, by direction. */
  readonly #met = new Map<string, Set<object>>();

  interfaces(older: Interface, newer: Interface): Change[] {
    for (const [name, method] of older.methods) {
      const now = newer.methods.get(name);
      if (now !== undefined) this.#methods(method, now);
      else this.#add(name, 'was removed', ['breaks', 'fine'], 'callers of it get "unknown method"');
    }
    for (const name of newer.methods.keys()) {
      if (!older.methods.has(name)) this.#add(name, 'was added', ['fine', 'breaks'], 'an old chassis does not have it');
    }
    return this.#changes;
  }

  #methods(older: Method, newer: Method): void {
    const { name } = older;
    if (older.oneway !== newer.oneway) {
      const what = newer.oneway ? 'became oneway' : 'is not oneway any more';
      this.#add(name, what, ['breaks', 'breaks'], 'one side waits for a reply that the other does not send');
    }
    this.#fields(
      older.args.fields,
      newer.args.fields,
      'to chassis',
      (field) => `${name}: parameter ${field.id} ${field.name}`,
    );
    if (order(older.args) !== order(newer.args)) {
      this.#add(
        `${name}: order of parameters`,
        `${order(older.args)} became ${order(newer.args)}`,
        ['json', 'json'],
        'JSON-RPC params by position get another meaning',
      );
    }
    this.#returns(older, newer);
    for (const field of older.throws) {
      const now = newer.throws.find(({ id }) => id === field.id);
      const where = `${name}: exception ${field.id} ${field.name}`;
      if (now === undefined)
        this.#add(
          where,
          'was removed',
          ['fine', 'sometimes'],
          'new callers do not understand an old chassis that throws it',
        );
      else this.#types(where, field.type, now.type, 'to caller');
    }
    for (const { id, name: exception } of newer.throws) {
      if (older.throws.some((field) => field.id === id)) continue;
      this.#add(
        `${name}: exception ${id} ${exception}`,
        'was added',
        ['sometimes', 'fine'],
        newer.returns.kind === 'void'
          ? 'old callers take it for success when it is thrown'
          : 'old callers do not know it when it is thrown',
      );
    }
  }

  #returns(older: Method, newer: Method): void {
    const where = `${older.name}: result`;
    const [was, is] = [older.returns.kind, newer.returns.kind];
    if (was !== 'void' && is !== 'void') this.#types(where, older.returns, newer.returns, 'to caller');
    else if (was !== is && is === 'void')
      this.#add(where, 'was removed', ['breaks', 'fine'], 'old callers wait for one');
    else if (was !== is) this.#add(where, 'was added', ['fine', 'breaks'], 'an old chassis gives none');
  }

  #fields(older: readonly Field[], newer: readonly Field[], flow: Flow, name: (field: Field) => string): void {
    for (const field of older) {
      const now = newer.find(({ id }) => id === field.id);
      if (now === undefined) this.#present(name(field), 'was removed', field, flow, 'old');
      else this.#field(name(field), field, now, flow);
    }
    for (const field of newer) {
      if (!older.some(({ id }) => id === field.id)) this.#present(name(field), 'was added', field, flow, 'new');
    }
  }

  /** If the reader does not know the field that a union holds, it reads an empty union. */
  #choices(older: StructType, newer: StructType, flow: Flow, name: (field: Field) => string): void {
    const why = 'a reader that does not know the field reads an empty union';
    for (const field of older.fields) {
      const now = newer.fields.find(({ id }) => id === field.id);
      if (now === undefined) this.#add(name(field), 'was removed', written('old', flow, 'sometimes', 'fine'), why);
      else this.#field(name(field), field, now, flow);
    }
    for (const field of newer.fields) {
      if (older.fields.some(({ id }) => id === field.id)) continue;
      this.#add(name(field), 'was added', written('new', flow, 'sometimes', 'fine'), why);
    }
  }

  /** A field that only one state has. Readers of that state fail if the field is required. */
  #present(where: string, what: string, field: Field, flow: Flow, state: 'old' | 'new'): void {
    const isRequired = field.requiredness === 'required';
    // Arguments are read by the chassis, results by the callers.
    const affectsOld = (state === 'new') === (flow === 'to chassis');
    const verdicts: [Compatibility, Compatibility] = isRequired
      ? affectsOld
        ? ['breaks', 'fine']
        : ['fine', 'breaks']
      : ['fine', 'fine'];
    this.#add(
      where,
      `${what}${isRequired ? ', required' : ''}`,
      verdicts,
      'the reader requires it and the writer does not know it',
    );
  }

  #field(where: string, older: Field, newer: Field, flow: Flow): void {
    if (older.name !== newer.name) {
      this.#add(where, `is called ${newer.name} now`, ['json', 'json'], 'Thrift uses field numbers; JSON uses names');
    }
    this.#defaults(where, older, newer, flow);
    if (older.requiredness !== newer.requiredness) {
      const what = `${older.requiredness} became ${newer.requiredness}`;
      const isRequiredNow = newer.requiredness === 'required';
      if (isRequiredNow || older.requiredness === 'required') {
        const affectsOld = isRequiredNow === (flow === 'to chassis');
        this.#add(
          where,
          what,
          affectsOld ? ['sometimes', 'fine'] : ['fine', 'sometimes'],
          'it breaks when the writer omits a field that the reader requires',
        );
      } else this.#add(where, what, ['fine', 'fine'], '');
    }
    this.#types(where, older.type, newer.type, flow);
  }

  /**
   * A writer that omits a field means its own default. Most writers send the default; in JSON and for optional fields
   * the reader's default applies.
   */
  #defaults(where: string, older: Field, newer: Field, flow: Flow): void {
    const [was, is] = [defaultText(older), defaultText(newer)];
    if (was === is || older.type.kind !== newer.type.kind) return;
    const meant = (field: Field): Compatibility =>
      field.defaultValue === undefined ? 'fine' : field.requiredness === 'optional' ? 'sometimes' : 'json';
    const verdicts = written('old', flow, meant(older), meant(newer));
    this.#add(where, `default ${was} became ${is}`, verdicts, "if the writer omits it, the reader's default applies");
  }

  #types(where: string, older: Type, newer: Type, flow: Flow): void {
    const [was, is] = [shapeOf(older), shapeOf(newer)];
    if (was !== is) {
      const what = `${nameOfType(older)} became ${nameOfType(newer)}`;
      this.#add(where, what, ['breaks', 'breaks'], 'the reader refuses it, or reads it as absent');
      return;
    }
    if (older.kind !== newer.kind) {
      // Enum and i32, and string and binary, are equal on the wire. But not all bytes are text, and not all numbers
      // are enum values.
      const isNarrower = newer.kind === 'string' || newer.kind === 'enum';
      this.#add(
        where,
        `${nameOfType(older)} became ${nameOfType(newer)}`,
        written(isNarrower ? 'old' : 'new', flow, 'sometimes', 'json'),
        'Thrift writes the same bytes for values that both types have; JSON writes them differently',
      );
      return;
    }
    if (older.kind === 'enum' && newer.kind === 'enum') this.#enums(older.enum, newer.enum, flow);
    if (older.kind === 'struct' && newer.kind === 'struct') this.#structs(older.struct, newer.struct, flow);
    if ((older.kind === 'list' || older.kind === 'set') && 'element' in newer) {
      this.#types(`${where} [element]`, older.element, newer.element, flow);
    }
    if (older.kind === 'map' && newer.kind === 'map') {
      this.#types(`${where} [key]`, older.key, newer.key, flow);
      this.#types(`${where} [value]`, older.value, newer.value, flow);
    }
  }

  #structs(older: StructType, newer: StructType, flow: Flow): void {
    if (this.#isMet(older, newer, flow)) return;
    const what = `${older.kind} ${plain(older.name)}`;
    const name = (field: Field): string => `${what}: field ${field.id} ${field.name}`;
    if (older.kind === 'union' && newer.kind === 'union') {
      this.#choices(older, newer, flow, name);
      return;
    }
    if (older.kind === 'union' || newer.kind === 'union') {
      const why = 'a union holds exactly one field, a struct or exception any number';
      this.#add(
        what,
        `became ${newer.kind}`,
        written(newer.kind === 'union' ? 'old' : 'new', flow, 'sometimes', 'json'),
        why,
      );
    }
    this.#fields(older.fields, newer.fields, flow, name);
  }

  #enums(older: EnumType, newer: EnumType, flow: Flow): void {
    if (this.#isMet(older, newer, flow)) return;
    const where = `enum ${plain(older.name)}`;
    for (const [name, value] of older.byName) {
      const now = newer.byName.get(name);
      if (now !== undefined && now !== value) {
        this.#add(
          `${where}: ${name}`,
          `${value} became ${now}`,
          ['breaks', 'breaks'],
          'the same name means another value',
        );
      } else if (!newer.byValue.has(value)) {
        const verdicts = written('old', flow, 'sometimes', 'fine');
        this.#add(`${where}: ${name} = ${value}`, 'was removed', verdicts, 'it breaks when the value is used');
      } else if (now === undefined) {
        const is = newer.byValue.get(value) ?? '';
        this.#add(`${where}: ${name} = ${value}`, `is called ${is} now`, ['json', 'json'], 'JSON uses the name');
      }
    }
    for (const [name, value] of newer.byName) {
      if (older.byName.has(name) || older.byValue.has(value)) continue;
      const verdicts = written('new', flow, 'sometimes', 'fine');
      this.#add(`${where}: ${name} = ${value}`, 'was added', verdicts, 'it breaks when the value is used');
    }
  }

  /** Whether the types were compared before in this direction. Ends the recursion for recursive types. */
  #isMet(older: object, newer: object, flow: Flow): boolean {
    const met = this.#met.get(flow) ?? new Set();
    this.#met.set(flow, met);
    if (met.has(older) && met.has(newer)) return true;
    met.add(older).add(newer);
    return false;
  }

  /** Adds a change. If it is found in both directions, the worse verdicts count. */
  #add(
    where: string,
    what: string,
    [oldCallers, newCallers]: readonly [Compatibility, Compatibility],
    why: string,
  ): void {
    const reason = oldCallers === 'fine' && newCallers === 'fine' ? '' : why;
    const index = this.#changes.findIndex((change) => change.where === where && change.what === what);
    const before = this.#changes[index];
    if (before === undefined) {
      this.#changes.push({ where, what, oldCallers, newCallers, why: reason });
      return;
    }
    this.#changes[index] = {
      where,
      what,
      oldCallers: worse(before.oldCallers, oldCallers),
      newCallers: worse(before.newCallers, newCallers),
      why: before.why || reason,
    };
  }
}

/**
 * Returns the verdicts for a change that affects only values written by one state. Callers write arguments, chassis
 * write results.
 */
function written(
  state: 'old' | 'new',
  flow: Flow,
  its: Compatibility,
  others: Compatibility,
): [Compatibility, Compatibility] {
  return (state === 'old') === (flow === 'to chassis') ? [its, others] : [others, its];
}

const SEVERITY: readonly Compatibility[] = ['fine', 'json', 'sometimes', 'breaks'];

function worse(one: Compatibility, other: Compatibility): Compatibility {
  return SEVERITY.indexOf(one) > SEVERITY.indexOf(other) ? one : other;
}

function order({ fields }: StructType): string {
  return fields.map(({ id }) => id).join(', ');
}

/** Returns the wire type of a type, without its parameters. */
function shapeOf({ kind }: Type): string {
  if (kind === 'enum') return 'i32';
  return kind === 'binary' ? 'string' : kind;
}

function plain(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}
