// A map with sorted keys that can be iterated from a prefix. Keys compare by UTF-16 code unit, which equals Consul's
// byte order for all characters below the surrogates. An insert shifts an array, which is fast enough for the tens
// of thousands of keys of one machine.

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

  /** Returns the values of all keys with the prefix, in key order. */
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
