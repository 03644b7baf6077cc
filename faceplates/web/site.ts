// A part of the URL space: which prefix, which files stand before which service. The longest prefix that fits wins;
// `/shop` takes `/shop` and what is below `/shop/`, and not `/shopping`.

/** As katamari.yaml has it; '' for what is not there. One of `service` and `files` always is. */
export interface Site {
  /** `/shop`; `/` for all that no other site takes. */
  readonly prefix: string;
  readonly service: string;
  /** '' for what the route says. */
  readonly version: string;
  /** Folder of static files. */
  readonly files: string;
  /** What the answers with files carry. */
  readonly cacheControl: string;
  /** Infinity for the mesh's. */
  readonly timeoutMs: number;
  /** The cookie whose value is the sticky key. */
  readonly stickyCookie: string;
}

export class SiteTable {
  readonly #sites: readonly (readonly [string, Site])[];

  constructor(sites: readonly Site[]) {
    this.#sites = sites.map((site) => [baseOf(site), site] as const).sort(([a], [b]) => b.length - a.length);
  }

  /** The site that a path (without its query) belongs to. */
  find(path: string): Site | undefined {
    return this.#sites.find(([base]) => path === base || path.startsWith(`${base}/`))?.[1];
  }
}

/** The prefix without a slash at its end: '' for the root. */
export function baseOf({ prefix }: Site): string {
  return prefix.replace(/\/+$/, '');
}
