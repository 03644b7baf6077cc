// Host and port as text: how to write an address into a URL, and how to dial one that a server listens on.

/** `http://host:port`, with brackets where IPv6 needs them. */
export function urlOf(host: string, port: number): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** An address to connect to, for one that is listened on: the unspecified ones mean this machine. */
export function dialable(host: string): string {
  return host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
}
