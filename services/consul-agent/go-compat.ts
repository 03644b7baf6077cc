// Go behavior that Consul's API exposes: durations, unsigned integers, case-insensitive struct decoding, and the
// error texts of each. Clients match on these texts, so the agent sends the same ones.

/** An error response with the text of Consul. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly status: number;

  constructor(status: number, text: string) {
    super(text);
    this.status = status;
  }
}

const NANOSECONDS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** `time.ParseDuration`: returns nanoseconds, or undefined if the text is invalid. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  const match = /^([+-]?)((?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/.exec(text);
  if (!match) return undefined;
  let total = 0;
  for (const part of match[2]!.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    total += Number(part[1]) * NANOSECONDS[part[2]!]!;
  }
  return Math.trunc(match[1] === '-' ? -total : total);
}

/** `Duration.String()`: 1h0m0s, 1.5s, 200ms. */
export function formatDuration(nanoseconds: number): string {
  if (nanoseconds === 0) return '0s';
  if (nanoseconds < 0) return `-${formatDuration(-nanoseconds)}`;
  if (nanoseconds < 1e3) return `${nanoseconds}ns`;
  if (nanoseconds < 1e6) return `${nanoseconds / 1e3}µs`;
  if (nanoseconds < 1e9) return `${nanoseconds / 1e6}ms`;
  const hours = Math.floor(nanoseconds / 3600e9);
  const minutes = Math.floor((nanoseconds % 3600e9) / 60e9);
  const seconds = `${(nanoseconds % 60e9) / 1e9}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}

/**
 * `strconv.ParseUint(text, 10, 64)`. A number that a double cannot hold exactly is rounded, because clients read
 * these numbers as doubles.
 */
export function parseUint(text: string): number {
  if (!/^\d+$/.test(text)) throw new Refusal(500, `strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`);
  if (BigInt(text) > 0xffff_ffff_ffff_ffffn) {
    throw new Refusal(500, `strconv.ParseUint: parsing ${JSON.stringify(text)}: value out of range`);
  }
  return Number(text);
}

/** `strconv.ParseBool`: undefined if the text is invalid. */
export function parseBool(text: string): boolean | undefined {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false;
  return undefined;
}

/** Limit of the nesting of a JSON body. The API needs at most six levels. */
const JSON_NESTING_MAX = 32;

/** Parses a JSON body. Errors begin with `prefix`, as in `Request decode failed: ...`. */
export function parseJson(body: Buffer, prefix: string): unknown {
  const text = body.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Refusal(400, `${prefix}: ${jsonError(text, error)}`);
  }
  if (isDeeperThan(value, JSON_NESTING_MAX)) throw new Refusal(400, `${prefix}: exceeded max depth`);
  return value;
}

function isDeeperThan(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (depth === 0) return true;
  return Object.values(value).some((inner) => isDeeperThan(inner, depth - 1));
}

function jsonError(text: string, error: unknown): string {
  const trimmed = text.trimStart();
  if (trimmed === '') return 'EOF';
  const first = trimmed[0]!;
  if (!'{["-0123456789tfn'.includes(first)) return `invalid character '${first}' looking for beginning of value`;
  const message = error instanceof Error ? error.message : String(error);
  return /end of (JSON|data)|Unexpected end|EOF|Unterminated/i.test(message)
    ? 'unexpected EOF'
    : `invalid JSON: ${message}`;
}

/** Types of the fields of a request. */
export type FieldKind = 'string' | 'int' | 'uint' | 'bool' | 'duration' | 'strings' | 'map' | 'any';
export type Fields = Readonly<Record<string, FieldKind>>;

/** The fields of a decoded struct that the request has, by canonical name. */
export class Decoded {
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(values: ReadonlyMap<string, unknown>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }
  string(name: string): string {
    return (this.#values.get(name) as string | undefined) ?? '';
  }
  /** Returns a number, or a duration in nanoseconds. */
  number(name: string): number {
    return (this.#values.get(name) as number | undefined) ?? 0;
  }
  bool(name: string): boolean {
    return (this.#values.get(name) as boolean | undefined) ?? false;
  }
  strings(name: string): string[] | undefined {
    return this.#values.get(name) as string[] | undefined;
  }
  map(name: string): Record<string, string> | undefined {
    return this.#values.get(name) as Record<string, string> | undefined;
  }
  any(name: string): unknown {
    return this.#values.get(name);
  }
}

/**
 * Decodes a JSON object as Go decodes a struct: field names in any case, null as absent.
 *
 * @param unknown what to do with fields that the struct does not have
 */
export function decodeStruct(value: unknown, fields: Fields, prefix: string, unknown: 'ignore' | 'refuse'): Decoded {
  if (value === null) return new Decoded(new Map());
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new Refusal(400, `${prefix}: json: cannot unmarshal ${jsonKind(value)} into Go value of type struct`);
  }
  const nameByFolded = new Map(Object.keys(fields).map((name) => [name.toLowerCase(), name]));
  const decoded = new Map<string, unknown>();
  for (const [given, inner] of Object.entries(value)) {
    const name = nameByFolded.get(given.toLowerCase());
    if (name === undefined) {
      if (unknown === 'refuse') throw new Refusal(400, `${prefix}: json: unknown field ${JSON.stringify(given)}`);
    } else if (inner !== null) {
      decoded.set(name, decodeField(inner, fields[name]!, name, prefix));
    }
  }
  return new Decoded(decoded);
}

function decodeField(value: unknown, kind: FieldKind, name: string, prefix: string): unknown {
  const mismatch = (goType: string): Refusal =>
    new Refusal(
      400,
      `${prefix}: json: cannot unmarshal ${jsonKind(value)} into Go struct field .${name} of type ${goType}`,
    );
  switch (kind) {
    case 'any':
      return value;
    case 'string':
      if (typeof value !== 'string') throw mismatch('string');
      return value;
    case 'bool':
      if (typeof value !== 'boolean') throw mismatch('bool');
      return value;
    case 'int':
    case 'uint':
      if (typeof value !== 'number' || !Number.isInteger(value) || (kind === 'uint' && value < 0)) throw mismatch(kind);
      return value;
    case 'duration': {
      if (typeof value === 'number') return Math.trunc(value);
      if (typeof value !== 'string') throw mismatch('time.Duration');
      const duration = value === '' ? 0 : parseDuration(value);
      if (duration === undefined) throw new Refusal(400, `${prefix}: time: invalid duration ${JSON.stringify(value)}`);
      return duration;
    }
    case 'strings':
      if (!Array.isArray(value) || value.some((inner) => typeof inner !== 'string')) throw mismatch('[]string');
      return value;
    case 'map':
      if (typeof value !== 'object' || Array.isArray(value) || value === null) throw mismatch('map[string]string');
      if (Object.values(value).some((inner) => typeof inner !== 'string')) throw mismatch('map[string]string');
      return value;
  }
}

function jsonKind(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'boolean') return 'bool';
  return value === null ? 'null' : typeof value;
}
