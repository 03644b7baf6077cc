// The two names of an index version: `wiki@3.0.0` for callers and people, `wiki/3.0.0` at the end of a key in Consul.
// Keys of deployments have the same form.

interface NamedVersion {
  readonly name: string;
  readonly version: string;
}

/** `wiki@3.0.0` */
export function indexIdOf({ name, version }: NamedVersion): string {
  return `${name}@${version}`;
}

/** `wiki/3.0.0`, which follows the prefix `indices/`. */
export function indexPathOf({ name, version }: NamedVersion): string {
  return `${name}/${version}`;
}

/** The path of an index version or deployment with this id. Names and versions have no `@` and no `/`. */
export function pathOfId(id: string): string {
  return id.replace('@', '/');
}

/** The id of an index version or deployment with this path. */
export function idOfPath(path: string): string {
  return path.replace('/', '@');
}
