// A simulated mesh of several machines behind the JSON-RPC of its admin service. It stores deployments and starts or
// stops one copy at each status request, so that the output of commands is deterministic. It starts no processes.
import type { Deployment } from '../../../services/mesh/mod.ts';
import { aDeployment } from '../master/a-deployment.ts';
import { startRpcServer, type Asked, type RpcServer } from './rpc-server.ts';

type ThriftDeployment = Record<string, unknown> & {
  serviceName: string;
  version: string;
  count: number;
  command: unknown;
};

interface Copy {
  readonly id: string;
  readonly manager: string;
  readonly name: string;
  pid: number;
  readonly of: string;
}

export class SimulatedMesh {
  readonly managers: string[] = ['m1', 'm2'];
  readonly deployments: Map<string, ThriftDeployment> = new Map();
  readonly drained: Set<string> = new Set();
  routes: Record<string, Record<string, number>> = {};
  copies: Copy[] = [];
  leader = 'boss';
  /** Copies whose start fails, by `Service@version`. */
  readonly broken: Set<string> = new Set();
  /** Figures of the pools, for tables. */
  figures: Record<string, unknown> = {};
  /** Merged over the status. */
  change: Record<string, unknown> = {};
  #server: RpcServer | undefined;
  #pid = 100;

  async start(): Promise<this> {
    this.#server = await startRpcServer((asked) => this.#answer(asked));
    return this;
  }

  get url(): string {
    return this.#server?.url ?? '';
  }

  /** Names of the called methods that change something. */
  get orders(): string[] {
    const looks = ['status', 'getDeployments', 'getRoutes', 'getDrained', 'events'];
    return (this.#server?.asked ?? []).map(({ method }) => method).filter((method) => !looks.includes(method));
  }

  /** Deploys as an earlier admin did: all copies are alive at once. */
  deploy(change: Partial<Deployment>): void {
    const { service, idl: _, concurrency: __, ...rest } = aDeployment(change);
    this.deployments.set(`${service}@${rest.version}`, { ...rest, serviceName: service, command: [...rest.command] });
    for (let n = 0; n < rest.count; n++) this.#step();
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  #answer({ method, params }: Asked): { result: unknown } | { error: object } {
    const given = params as Record<string, unknown>;
    const id = `${String(given['serviceName'])}@${String(given['version'])}`;
    const refused = (why: string): { error: object } => ({
      error: { code: -32050, message: 'AdminRefused', data: { exception: 'AdminRefused', why } },
    });
    switch (method) {
      case 'status':
        this.#step();
        return { result: { ...this.#status(), ...this.change } };
      case 'getDeployments':
        return { result: [...this.deployments.values()] };
      case 'deploy': {
        const deployment = given['deployment'] as ThriftDeployment;
        const before = this.deployments.get(`${deployment.serviceName}@${deployment.version}`);
        this.deployments.set(`${deployment.serviceName}@${deployment.version}`, deployment);
        if (before === undefined) return { result: 'CREATED' };
        return { result: JSON.stringify(before) === JSON.stringify(deployment) ? 'UNCHANGED' : 'CHANGED' };
      }
      case 'scale': {
        const found = this.deployments.get(id);
        if (found === undefined) return refused(`${id} is not a deployment of the mesh; deployments are none`);
        found.count = given['count'] as number;
        return { result: found };
      }
      case 'undeploy':
        return this.deployments.delete(id) ? { result: null } : refused(`${id} is no deployment of the mesh`);
      case 'drain':
        this.drained.add(given['manager'] as string);
        return { result: null };
      case 'undrain':
        this.drained.delete(given['manager'] as string);
        return { result: null };
      case 'getRoutes':
        return { result: Object.entries(this.routes).map(([serviceName, weights]) => ({ serviceName, weights })) };
      case 'setRoute': {
        const { serviceName, weights } = given['route'] as { serviceName: string; weights: Record<string, number> };
        const { [serviceName]: _, ...others } = this.routes;
        this.routes = Object.keys(weights).length === 0 ? others : { ...others, [serviceName]: weights };
        return { result: null };
      }
      default:
        return { error: { code: -32601, message: `not simulated: ${method}` } };
    }
  }

  /** Starts or stops one copy. */
  #step(): void {
    const hosts = this.managers.filter((manager) => !this.drained.has(manager));
    const isWanted = ({ id, manager, of }: Copy): boolean =>
      !this.drained.has(manager) && JSON.stringify(this.deployments.get(id)?.command) === of;
    const unwanted = this.copies.find((copy) => !isWanted(copy));
    if (unwanted !== undefined) this.copies = this.copies.filter((copy) => copy !== unwanted);
    for (const [id, { count, command }] of this.deployments) {
      const own = this.copies.filter((copy) => copy.id === id);
      if (own.length > count) {
        this.copies = this.copies.filter((copy) => copy !== own.at(-1));
        return;
      }
      const onHost = (host: string): Copy[] => own.filter(({ manager }) => manager === host);
      const [manager] = [...hosts].sort((a, b) => onHost(a).length - onHost(b).length);
      if (own.length === count || manager === undefined || this.leader === '') continue;
      const name = `${id}/${onHost(manager).length + 1}`;
      this.copies.push({ id, manager, name, pid: ++this.#pid, of: JSON.stringify(command) });
      return;
    }
  }

  #status(): Record<string, unknown> {
    const ids = new Set(this.copies.map(({ id, manager }) => `${id} ${manager}`));
    return {
      mesh: 'lab',
      name: 'f1',
      version: '0.1.0',
      runtime: 'node 20',
      pid: 7,
      uptimeMs: 3_723_000,
      isReady: true,
      isDraining: false,
      note: '',
      roles: ['faceplate'],
      timeoutMs: 10_000,
      rssBytes: 1024 * 1024,
      connections: {},
      listeners: [],
      calls: { accepted: 9, replied: 9, failed: 0, refused: 0, timed_out: 0, cancelled: 0, inFlight: 0 },
      leader: this.leader,
      term: 12,
      pools: [...ids].map((key) => this.#pool(key)),
      processes: [
        this.#process('boss', 'master', { isLeader: this.leader === 'boss' }),
        ...this.managers.map((name) => this.#process(name, 'manager')),
        this.#process('f1', 'faceplate'),
      ],
    };
  }

  #pool(key: string): Record<string, unknown> {
    const [id = '', manager = ''] = key.split(' ');
    const [service, version] = id.split('@');
    const own = this.copies.filter((copy) => copy.id === id && copy.manager === manager);
    const isBroken = this.broken.has(id);
    const state = isBroken ? 'backing_off' : 'idle';
    const plain = { inFlight: 0, callsServed: 3, ageMs: 61_000, rssBytes: 50 * 1024 * 1024, restarts: 0 };
    return {
      id,
      serviceName: service,
      version,
      roles: [],
      tags: [],
      interfaceId: 'x',
      manager,
      wanted: own.length,
      alive: isBroken ? 0 : own.length,
      free: own.length,
      queued: 0,
      queueMax: 256,
      weight: 1,
      calls: 100,
      errors: 0,
      ratePerS: 12.5,
      p50Ms: 0.4,
      p99Ms: 2,
      queueP99Ms: 0,
      restartsByReason: {},
      note: isBroken ? 'exited with code 3 at once' : '',
      resources: own.map(({ name, pid }) => ({ name, state, pid, ...plain, note: isBroken ? 'no module ranker' : '' })),
      ...this.figures,
      ...this.#share(service as string, version as string),
    };
  }

  /** The share of a version by the weights of a route, of which only those of running versions count. */
  #share(service: string, version: string): { readonly weight?: number } {
    const weights = this.routes[service];
    if (weights === undefined) return {};
    const running = new Set(this.copies.map(({ id }) => id));
    const counted = Object.entries(weights).filter(([one]) => running.has(`${service}@${one}`));
    const sum = counted.reduce((total, [, weight]) => total + weight, 0);
    return sum === 0 ? {} : { weight: (weights[version] ?? 0) / sum };
  }

  #process(name: string, role: string, change: object = {}): Record<string, unknown> {
    const resources = this.copies.filter(({ manager }) => manager === name).length;
    const isManager = role === 'manager';
    return {
      name,
      role,
      machine: `host-${name}`,
      stats: `http://${name}:9081`,
      state: this.drained.has(name) ? 'draining' : 'up',
      capacity: isManager ? 1 : 0,
      resources,
      isLeader: false,
      ...change,
    };
  }
}
