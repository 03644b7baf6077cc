// ThriftException, with which handlers throw declared exceptions. It is recognized by its shape, not by instanceof,
// so that two copies of the SDK in one process are compatible.

/**
 * A declared exception of a method:
 * `throw new ThriftException('InvalidOperation', { whatOp: 4, why: 'Cannot divide by 0' })`
 */
export class ThriftException extends Error {
  override readonly name = 'ThriftException';
  /** Name of the exception in the IDL. */
  readonly exception: string;
  /** Its fields by name. */
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(exception: string, fields: Readonly<Record<string, unknown>> = {}) {
    super(`${exception} ${describe(fields)}`);
    this.exception = exception;
    this.fields = fields;
  }
}

/** Returns the declared exception in a thrown value; undefined for any other value. */
export function declaredException(thrown: unknown): Pick<ThriftException, 'exception' | 'fields'> | undefined {
  if (typeof thrown !== 'object' || thrown === null) return undefined;
  const { exception, fields } = thrown as Partial<ThriftException>;
  return typeof exception === 'string' && typeof fields === 'object' && fields !== null
    ? { exception, fields }
    : undefined;
}

function describe(fields: Readonly<Record<string, unknown>>): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}: ${String(value)}`)
    .join(', ');
}
