// What a JSON-RPC method name says: `Service.method` or `Service@version.method`.
// A version may hold dots (`1.2.3`, `^1.2`), so the method is what follows the last one.

/** What a call asks for by its name; '' where it says nothing. */
export interface MethodName {
  readonly service: string;
  readonly version: string;
  readonly method: string;
}

export function parseMethodName(name: string): MethodName {
  const dot = name.lastIndexOf('.');
  return { ...parseServiceName(name.slice(0, Math.max(0, dot))), method: name.slice(dot + 1) };
}

/** `Service` or `Service@version`. */
export function parseServiceName(name: string): { service: string; version: string } {
  const at = name.indexOf('@');
  return at < 0 ? { service: name, version: '' } : { service: name.slice(0, at), version: name.slice(at + 1) };
}
