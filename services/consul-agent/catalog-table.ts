// Nodes, their services and their checks, with one index per service as in Consul, so that a change of one service
// does not wake the watches of another. Reports checks that turn critical or are removed, because sessions depend on
// checks.

export interface CatalogNode {
  readonly ID: string;
  readonly Node: string;
  readonly Address: string;
  readonly Datacenter: string;
  readonly TaggedAddresses: Readonly<Record<string, string>> | null;
  readonly Meta: Readonly<Record<string, string>> | null;
  readonly CreateIndex: number;
  readonly ModifyIndex: number;
}

export interface CatalogService {
  readonly ID: string;
  readonly Service: string;
  readonly Tags: readonly string[];
  readonly Address: string;
  readonly TaggedAddresses?: Readonly<Record<string, unknown>>;
  readonly Meta: Readonly<Record<string, string>> | null;
  readonly Port: number;
  readonly Weights: { readonly Passing: number; readonly Warning: number };
  readonly EnableTagOverride: boolean;
  readonly CreateIndex: number;
  readonly ModifyIndex: number;
}

export type CheckStatus = 'passing' | 'warning' | 'critical';

export interface CatalogCheck {
  readonly Node: string;
  readonly CheckID: string;
  readonly Name: string;
  readonly Status: CheckStatus;
  readonly Notes: string;
  readonly Output: string;
  readonly ServiceID: string;
  readonly ServiceName: string;
  readonly ServiceTags: readonly string[];
  readonly Type: string;
  readonly Definition: Readonly<Record<string, never>>;
  readonly CreateIndex: number;
  readonly ModifyIndex: number;
}

export type NewNode = Omit<CatalogNode, 'CreateIndex' | 'ModifyIndex'>;
export type NewService = Omit<CatalogService, 'CreateIndex' | 'ModifyIndex'>;
export type NewCheck = Omit<CatalogCheck, 'CreateIndex' | 'ModifyIndex' | 'ServiceName' | 'ServiceTags'>;

interface Machine {
  readonly node: CatalogNode;
  readonly services: Map<string, CatalogService>;
  readonly checks: Map<string, CatalogCheck>;
}

export class CatalogTable {
  readonly #machines = new Map<string, Machine>();
  /** Indexes of the last change, by table (nodes, services, checks) and by name of a service. */
  #nodesIndex = 0;
  #servicesIndex = 0;
  #checksIndex = 0;
  #lastServiceGoneIndex = 0;
  readonly #serviceIndexes = new Map<string, number>();

  nodesIndex(): number {
    return this.#nodesIndex;
  }
  servicesIndex(): number {
    return this.#servicesIndex;
  }
  checksIndex(): number {
    return this.#checksIndex;
  }
  nodeServicesIndex(): number {
    return Math.max(this.#nodesIndex, this.#servicesIndex);
  }

  /** Returns the index for a watch on one service. */
  serviceIndex(name: string, withChecks: boolean): number {
    const own = this.#serviceIndexes.get(name);
    if (own !== undefined) return own;
    if (this.#lastServiceGoneIndex > 0) return this.#lastServiceGoneIndex;
    return Math.max(this.#nodesIndex, this.#servicesIndex, withChecks ? this.#checksIndex : 0);
  }

  nodes(): CatalogNode[] {
    return [...this.#machines.values()].map((machine) => machine.node).sort((a, b) => order(a.Node, b.Node));
  }
  node(name: string): CatalogNode | undefined {
    return this.#machines.get(name)?.node;
  }
  services(node: string): CatalogService[] {
    return [...(this.#machines.get(node)?.services.values() ?? [])].sort((a, b) => order(a.ID, b.ID));
  }
  service(node: string, id: string): CatalogService | undefined {
    return this.#machines.get(node)?.services.get(id);
  }
  checks(node: string): CatalogCheck[] {
    return [...(this.#machines.get(node)?.checks.values() ?? [])].sort((a, b) => order(a.CheckID, b.CheckID));
  }
  check(node: string, id: string): CatalogCheck | undefined {
    return this.#machines.get(node)?.checks.get(id);
  }

  /** Adds or replaces a node. Like the other `put` and `delete` methods, returns false if nothing changes. */
  putNode(next: NewNode, index: number): boolean {
    const machine = this.#machines.get(next.Node);
    if (machine !== undefined && isSame(machine.node, next)) return false;
    const node = { ...next, CreateIndex: machine?.node.CreateIndex ?? index, ModifyIndex: index };
    this.#machines.set(next.Node, {
      node,
      services: machine?.services ?? new Map(),
      checks: machine?.checks ?? new Map(),
    });
    this.#nodesIndex = index;
    this.#touchServicesOf(next.Node, index);
    return true;
  }

  putService(node: string, next: NewService, index: number): boolean {
    const machine = this.#machine(node);
    const before = machine.services.get(next.ID);
    if (before !== undefined && isSame(before, next)) return false;
    machine.services.set(next.ID, { ...next, CreateIndex: before?.CreateIndex ?? index, ModifyIndex: index });
    this.#servicesIndex = index;
    this.#serviceIndexes.set(next.Service, index);
    if (before !== undefined && before.Service !== next.Service) this.#instanceGone(before.Service, index);
    return true;
  }

  putCheck(next: NewCheck, index: number): boolean {
    const machine = this.#machine(next.Node);
    const service = machine.services.get(next.ServiceID);
    const full = { ...next, ServiceName: service?.Service ?? '', ServiceTags: service?.Tags ?? [] };
    const before = machine.checks.get(next.CheckID);
    if (before !== undefined && isSame(before, full)) return false;
    machine.checks.set(next.CheckID, { ...full, CreateIndex: before?.CreateIndex ?? index, ModifyIndex: index });
    this.#checkChanged(next.Node, full.ServiceName, index);
    return true;
  }

  /** Deletes a service. Returns the ids of its deleted checks, or undefined if there is no such service. */
  deleteService(node: string, id: string, index: number): string[] | undefined {
    const machine = this.#machines.get(node);
    const service = machine?.services.get(id);
    if (machine === undefined || service === undefined) return undefined;
    const gone = [...machine.checks.values()].filter((check) => check.ServiceID === id).map((check) => check.CheckID);
    for (const check of gone) machine.checks.delete(check);
    if (gone.length > 0) this.#checksIndex = index;
    machine.services.delete(id);
    this.#servicesIndex = index;
    this.#instanceGone(service.Service, index);
    return gone;
  }

  deleteCheck(node: string, id: string, index: number): boolean {
    const check = this.#machines.get(node)?.checks.get(id);
    if (check === undefined) return false;
    this.#machines.get(node)!.checks.delete(id);
    this.#checkChanged(node, check.ServiceName, index);
    return true;
  }

  deleteNode(name: string, index: number): boolean {
    const machine = this.#machines.get(name);
    if (machine === undefined) return false;
    for (const service of machine.services.keys()) this.deleteService(name, service, index);
    if (machine.checks.size > 0) this.#checksIndex = index;
    this.#machines.delete(name);
    this.#nodesIndex = index;
    return true;
  }

  *records(): Iterable<unknown> {
    yield {
      table: 'catalog',
      indexes: [this.#nodesIndex, this.#servicesIndex, this.#checksIndex, this.#lastServiceGoneIndex],
      services: [...this.#serviceIndexes],
    };
    for (const { node, services, checks } of this.#machines.values()) {
      yield { table: 'catalog', machine: { node, services: [...services.values()], checks: [...checks.values()] } };
    }
  }

  restore(record: {
    indexes?: readonly number[];
    services?: readonly (readonly [string, number])[];
    machine?: { node: CatalogNode; services: CatalogService[]; checks: CatalogCheck[] };
  }): void {
    if (record.machine !== undefined) {
      const { node, services, checks } = record.machine;
      this.#machines.set(node.Node, {
        node,
        services: new Map(services.map((service) => [service.ID, service])),
        checks: new Map(checks.map((check) => [check.CheckID, check])),
      });
      return;
    }
    const [nodes = 0, services = 0, checks = 0, gone = 0] = record.indexes ?? [];
    this.#nodesIndex = nodes;
    this.#servicesIndex = services;
    this.#checksIndex = checks;
    this.#lastServiceGoneIndex = gone;
    for (const [name, index] of record.services ?? []) this.#serviceIndexes.set(name, index);
  }

  #machine(node: string): Machine {
    const machine = this.#machines.get(node);
    if (machine === undefined) throw new Error(`Defect: no node ${JSON.stringify(node)} in the catalog`);
    return machine;
  }

  /** A check of a service changes the index of that service. A check of the node changes all services of the node. */
  #checkChanged(node: string, serviceName: string, index: number): void {
    this.#checksIndex = index;
    if (serviceName === '') this.#touchServicesOf(node, index);
    else this.#serviceIndexes.set(serviceName, index);
  }

  #touchServicesOf(node: string, index: number): void {
    for (const service of this.#machines.get(node)?.services.values() ?? [])
      this.#serviceIndexes.set(service.Service, index);
  }

  #instanceGone(name: string, index: number): void {
    for (const machine of this.#machines.values()) {
      for (const service of machine.services.values()) {
        if (service.Service === name) {
          this.#serviceIndexes.set(name, index);
          return;
        }
      }
    }
    this.#serviceIndexes.delete(name);
    this.#lastServiceGoneIndex = index;
  }
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Compares records without their indexes. Fields are always in the same order, so comparing the JSON text is enough.
 */
function isSame(before: object, next: object): boolean {
  return (
    JSON.stringify({ ...before, CreateIndex: 0, ModifyIndex: 0 }) ===
    JSON.stringify({ ...next, CreateIndex: 0, ModifyIndex: 0 })
  );
}
