// Sites: parts of the URL space, each served by files, a service or both. The longest matching prefix wins. `/shop`
// matches `/shop` and everything below `/shop/`, but not `/shopping`.

/** A site of katamari.yaml; absent settings are ''. At least one of `service` and `files` is set. */
export interface Site {
  /** For example `/shop`; `/` matches all paths that no other site matches. */
  readonly prefix: string;
  readonly service: string;
  /** Requested version of the service; '' to follow the route. */
  readonly version: string;
  /** Folder of static files. */
  readonly files: string;
  /** `Cache-Control` header of responses with files. */
  readonly cacheControl: string;
  /** Timeout of calls; Infinity to use the global timeout. */
  readonly timeoutMs: number;
  /** Name of the cookie whose value is the affinity key. */
  readonly stickyCookie: string;
}

export class SiteTable {
  readonly #sites: readonly (readonly [string, Site])[];

  constructor(sites: readonly Site[]) {
    this.#sites = sites.map((site) => [baseOf(site), site] as const).sort(([a], [b]) => b.length - a.length);
  }

  /** Returns the site of a path (without its query); undefined if there is none. */
  find(path: string): Site | undefined {
    return this.#sites.find(([base]) => path === base || path.startsWith(`${base}/`))?.[1];
  }
}

/** Returns the prefix without a trailing slash; '' for the root. */
export function baseOf({ prefix }: Site): string {
  return prefix.replace(/\/+$/, '');
}
