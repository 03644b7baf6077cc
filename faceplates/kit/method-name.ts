// Method names as clients of text protocols write them: `Service.method` or `Service@version.method`.

/** The parts of a method name; '' for a missing part. */
export interface MethodName {
  readonly service: string;
  readonly version: string;
  readonly method: string;
}

/**
 * Splits `Service.method` or `Service@version.method`. A version may contain dots (`1.2.3`, `^1.2`), so the method is
 * the part after the last dot. Never throws: a missing part is ''.
 * @example
 * parseMethodName('Calculator@1.0.0.add'); // { service: 'Calculator', version: '1.0.0', method: 'add' }
 */
export function parseMethodName(name: string): MethodName {
  const dot = name.lastIndexOf('.');
  const service = name.slice(0, Math.max(0, dot));
  const method = name.slice(dot + 1);
  const at = service.indexOf('@');
  if (at < 0) return { service, version: '', method };
  return { service: service.slice(0, at), version: service.slice(at + 1), method };
}
