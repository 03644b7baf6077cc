// Request headers as a transport delivers them.

/** Headers by name in lower case, in the shape of Node's `IncomingMessage.headers`. */
export type HeadersIn = Readonly<Record<string, string | string[] | undefined>>;
