// Sets variables of the environment of this process for a test, which its children inherit.

export class TestEnvironment {
  readonly #before = new Map<string, string | undefined>();

  set(values: Readonly<Record<string, string | undefined>>): void {
    for (const [name, value] of Object.entries(values)) {
      if (!this.#before.has(name)) this.#before.set(name, process.env[name]);
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }

  restore(): void {
    this.set(Object.fromEntries(this.#before));
    this.#before.clear();
  }
}
