// Request headers as a transport delivers them.

/** Header names in lower case, as node gives them. */
export type HeadersIn = Readonly<Record<string, string | string[] | undefined>>;
