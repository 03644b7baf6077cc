// Request headers as a transport delivers them.

/**
 * Headers by name, in the shape of Node's `IncomingMessage.headers`. Names and values have one character per byte. The
 * names of HTTP headers and the mesh's own names are in lower case; other names of a THeader are as sent.
 */
export type HeadersIn = Readonly<Record<string, string | string[] | undefined>>;

/** Whether the header is for the mesh. All others are handed on to the chassis. @param name in lower case */
export function isOwnHeader(name: string): boolean {
  return OWN.test(name);
}

const OWN =
  /^(?:katamari-(?:service|version|timeout-ms|key|tags|roles|min-coverage|any-order)|traceparent|tracestate)$/;
