// A map whose keys can be walked in order from a prefix. Keys are compared by UTF-16 unit: the same order as Consul's
// bytes for everything below the surrogates. Inserting shifts an array, which is fast for the few ten thousand keys
// an agent on one machine has.

export class KeyTable<V> {
  readonly #values = new Map<string, V>();
  readonly #keys: string[] = [];

  get size(): number {
    return this.#values.size;
  }

  get(key: string): V | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: V): void {
    if (!this.#values.has(key)) this.#keys.splice(this.#firstAtOrAfter(key), 0, key);
    this.#values.set(key, value);
  }

  delete(key: string): boolean {
    if (!this.#values.delete(key)) return false;
    this.#keys.splice(this.#firstAtOrAfter(key), 1);
    return true;
  }

  clear(): void {
    this.#values.clear();
    this.#keys.length = 0;
  }

  /** Values of all keys that begin with `prefix`, in order of their keys. */
  under(prefix: string): V[] {
    const found: V[] = [];
    for (let at = this.#firstAtOrAfter(prefix); at < this.#keys.length; at++) {
      const key = this.#keys[at]!;
      if (!key.startsWith(prefix)) break;
      found.push(this.#values.get(key)!);
    }
    return found;
  }

  #firstAtOrAfter(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
