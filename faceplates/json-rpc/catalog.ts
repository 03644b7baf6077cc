// Documents about the services of the mesh: the OpenRPC document (`rpc.discover`), IDL files, and an example request.
// It reads the directory on each request and keeps the OpenRPC document until the pools change. The document of a
// large mesh is long, so it is built in slices.

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { areParamsMoved, paramsOf, schemaOf } from '../../core/idl/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import { isMeshService, NO_DETAILS, NONE, type CallerIdentity, type Directory } from '../../core/rpc/mod.ts';
import type { Interface, Method } from '../../core/thrift/mod.ts';
import { parseMethodName } from '../kit/mod.ts';
import { exampleOf } from './example.ts';
import { DECLARED_EXCEPTION } from './rpc-error.ts';

/** A text to serve, and its ETag. */
export interface Document {
  readonly text: string;
  /** Quoted, as in the HTTP header. */
  readonly etag: string;
}

/** One version of a service, which may have several pools. */
interface Edition {
  readonly service: string;
  readonly version: string;
  readonly interface: Interface;
  /** The methods that the caller may call, in the order of the interface. */
  readonly methods: readonly Method[];
}

export class Catalog {
  readonly #directory: Directory;
  readonly #idl = new WeakMap<Interface, Document>();
  /** Documents of the whole mesh, by the methods in them. Callers with different rights see different documents. */
  readonly #openRpc = new LRUCache<string, Promise<Document>>({ max: DOCUMENTS_MAX });

  constructor(directory: Directory) {
    this.#directory = directory;
  }

  /**
   * Returns the OpenRPC document of the mesh, or of `Service[@version]`: what a caller may call.
   * @throws KatamariError no_pool
   */
  async openRpc(identity: CallerIdentity, path = ''): Promise<Document> {
    return path === '' ? this.#whole(identity) : openRpcOf(this.#find(identity, path));
  }

  /**
   * Returns the IDL of `Service[@version]`; of the newest version if none is given. It is the whole text, also for a
   * caller that may call only some of the methods. `service` is the name in the IDL: an index has the interface of its
   * content service. @throws KatamariError no_pool
   */
  idl(identity: CallerIdentity, name: string): Document & { readonly version: string; readonly service: string } {
    const edition = this.#find(identity, name).at(-1) as Edition;
    let document = this.#idl.get(edition.interface);
    if (document === undefined) {
      document = documentOf(idlText(edition.interface));
      this.#idl.set(edition.interface, document);
    }
    return { ...document, version: edition.version, service: edition.interface.service };
  }

  /** Returns a request that the first service of the mesh answers; undefined if there is no service. */
  exampleRequest(identity: CallerIdentity): string | undefined {
    const editions = this.#editions(identity);
    const edition = editions.find(({ service }) => !isMeshService(service)) ?? editions[0];
    if (edition === undefined) return undefined;
    const chosen = edition.methods
      .filter(({ oneway }) => !oneway)
      .sort((a, b) => exampleScore(b, edition.service) - exampleScore(a, edition.service))[0];
    if (chosen === undefined) return undefined;
    const params = Object.fromEntries(chosen.args.fields.map(({ name, type }) => [name, exampleOf(type)]));
    return JSON.stringify({ jsonrpc: '2.0', id: 1, method: `${edition.service}.${chosen.name}`, params });
  }

  #whole(identity: CallerIdentity): Promise<Document> {
    const editions = this.#editions(identity);
    const key = editions.map(keyOf).join('\n');
    let whole = this.#openRpc.get(key);
    if (whole === undefined) {
      whole = openRpcOf(editions);
      this.#openRpc.set(key, whole);
    }
    return whole;
  }

  #find(identity: CallerIdentity, name: string): readonly Edition[] {
    const { service, version } = parseMethodName(`${name}.`);
    const all = this.#editions(identity);
    const editions = all.filter((edition) => edition.service === service);
    const found = editions.filter((edition) => version === '' || edition.version === version);
    if (found.length > 0) return found;
    this.#checkNotStarting(identity, service, version);
    const alternatives =
      editions.length > 0
        ? `versions here are ${editions.map((edition) => edition.version).join(', ')}`
        : `services here are ${[...new Set(all.map((edition) => edition.service))].join(', ') || 'none yet'}`;
    throw new KatamariError('no_pool', `No pool offers ${name}: ${alternatives}`);
  }

  /** @throws KatamariError if the service is deployed and has no copy yet: the client may try again */
  #checkNotStarting(identity: CallerIdentity, service: string, version: string): void {
    const query = { service, version, method: '', roles: NONE, tags: NONE, details: NO_DETAILS, key: '', identity };
    let refusal: KatamariError | undefined;
    this.#directory.waitForCopy(query, {
      deadlineMs: 0,
      signal: undefined,
      doNotQueue: true,
      resume: () => undefined,
      fail: (error) => (refusal = error),
    });
    if (refusal !== undefined) throw refusal;
  }

  /** Returns the editions that the caller may use, in the order of the directory: by service, then version. */
  #editions(identity: CallerIdentity): readonly Edition[] {
    const editions = new Map<string, Edition>();
    for (const pool of this.#directory.pools()) {
      const { service, version } = pool.details;
      const name = `${service}@${version}`;
      if (editions.has(name)) continue;
      const all = [...pool.interface.methods.values()];
      const methods = all.filter((method) => this.#directory.mayCall(identity, pool, method.name));
      if (methods.length > 0) editions.set(name, { service, version, interface: pool.interface, methods });
    }
    return [...editions.values()];
  }
}

function keyOf({ service, version, interface: { id, methods: all }, methods }: Edition): string {
  const names = methods.length === all.size ? '' : methods.map(({ name }) => name).join();
  return `${service}@${version} ${id} ${names}`;
}

/**
 * Ranks methods as examples. Read-only methods come first, then those that the service declares itself, then those
 * with plain arguments.
 */
function exampleScore({ isReadonly, declaredBy, args }: Method, service: string): number {
  const hasPlainArgs = args.fields.length > 0 && args.fields.every(({ type }) => type.kind !== 'struct');
  return (isReadonly ? 4 : 0) + (declaredBy === service ? 2 : 0) + (hasPlainArgs ? 1 : 0);
}

/** Returns the author's IDL text if it has no includes, otherwise the canonical text, which is complete in itself. */
function idlText({ source, canonical }: Interface): string {
  const names = Object.keys(source.files);
  return (names.length === 1 ? source.files[source.main] : undefined) ?? canonical;
}

function documentOf(text: string): Document {
  return { text, etag: `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"` };
}

/**
 * Builds the OpenRPC document. Plain method names stand for the newest version. If a service has several versions,
 * each is also listed as `Service@version`.
 */
async function openRpcOf(editions: readonly Edition[]): Promise<Document> {
  const schemas: Record<string, object> = {};
  const methods: string[] = [];
  for (const [index, { service, version, methods: allowed }] of editions.entries()) {
    const isNewest = editions[index + 1]?.service !== service;
    const isOnly = isNewest && editions[index - 1]?.service !== service;
    for (const name of [...(isNewest ? [service] : []), ...(isOnly ? [] : [`${service}@${version}`])]) {
      for (const method of allowed) {
        methods.push(indented(openRpcMethod(name, version, method, schemas), '    '));
        if (methods.length % SLICE_ENTRIES === 0) await nextTurn();
      }
    }
  }
  const components: string[] = [];
  for (const [name, schema] of Object.entries(schemas)) {
    components.push(`${JSON.stringify(name)}: ${indented(schema, '      ')}`);
    if (components.length % SLICE_ENTRIES === 0) await nextTurn();
  }
  const lines = (entries: readonly string[], indent: string): string =>
    entries.length === 0 ? '' : `\n${indent}  ${entries.join(`,\n${indent}  `)}\n${indent}`;
  return documentOf(`{
  "openrpc": "1.2.6",
  "info": ${indented(INFO, '  ')},
  "methods": [${lines(methods, '  ')}],
  "components": {
    "schemas": {${lines(components, '    ')}}
  }
}`);
}

function indented(value: unknown, indent: string): string {
  return JSON.stringify(value, undefined, 2).replaceAll('\n', `\n${indent}`);
}

function openRpcMethod(service: string, version: string, method: Method, schemas: Record<string, object>): unknown {
  const { doc, returns, throws } = method;
  return {
    name: `${service}.${method.name}`,
    ...(doc === '' ? {} : { summary: doc.split('\n', 1)[0], description: doc }),
    tags: [{ name: service }],
    // Params by position have the order of the IDL, so only a document in this order can offer them.
    paramStructure: areParamsMoved(method) ? 'by-name' : 'either',
    params: paramsOf(method, schemas),
    result: { name: 'result', schema: schemaOf(returns, schemas) },
    ...(throws.length === 0 ? {} : { errors: [exceptionsOf(throws, schemas)] }),
    'x-katamari-version': version,
    ...(method.oneway ? { 'x-katamari-oneway': true } : {}),
    ...(method.isIdempotent ? { 'x-katamari-idempotent': true } : {}),
    ...(method.isReadonly ? { 'x-katamari-readonly': true } : {}),
    ...(method.timeoutMs > 0 ? { 'x-katamari-timeout-ms': method.timeoutMs } : {}),
  };
}

/** One entry for all declared exceptions: they share an error code, and OpenRPC requires unique codes. */
function exceptionsOf(throws: Method['throws'], schemas: Record<string, object>): unknown {
  const names = throws.map(({ type, name }) => (type.kind === 'struct' ? type.struct.name : name));
  const data = throws.map(({ type }) => schemaOf(type, schemas));
  return { code: DECLARED_EXCEPTION, message: names.join(' or '), data: data.length === 1 ? data[0] : { anyOf: data } };
}

/** Documents that are kept; each is as large as the interfaces of the mesh. */
const DOCUMENTS_MAX = 16;
const INFO = {
  title: 'Katamari',
  version: '1.0.0',
  description:
    'Every service in this mesh, as JSON-RPC 2.0 over HTTP: POST /rpc. The IDL itself: GET /idl/Service.thrift.',
} as const;
/** Methods or schemas that are described in one turn of the event loop. */
const SLICE_ENTRIES = 50;
