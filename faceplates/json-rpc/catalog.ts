// Documents about the services of the mesh: the OpenRPC document (`rpc.discover`), IDL files, and an example request.
// It reads the directory on each request and keeps the OpenRPC document until the pools change.

import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { paramsOf, schemaOf } from '../../core/idl/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import { NO_DETAILS, NONE, type CallerIdentity, type Directory } from '../../core/rpc/mod.ts';
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

/** The OpenRPC document of the whole mesh, as one group of callers sees it. */
interface MeshDocument {
  readonly object: unknown;
  readonly document: Document;
}

export class Catalog {
  readonly #directory: Directory;
  readonly #idl = new WeakMap<Interface, Document>();
  /** By the methods in it. Callers with different rights see different documents. */
  readonly #openRpc = new LRUCache<string, MeshDocument>({ max: DOCUMENTS_MAX });

  constructor(directory: Directory) {
    this.#directory = directory;
  }

  /**
   * Returns the OpenRPC document of the mesh, or of `Service[@version]`: what a caller may call.
   * @throws KatamariError no_pool
   */
  openRpc(identity: CallerIdentity, path = ''): unknown {
    return path === '' ? this.#whole(identity).object : openRpcOf(this.#find(identity, path));
  }

  openRpcDocument(identity: CallerIdentity): Document {
    return this.#whole(identity).document;
  }

  /**
   * Returns the IDL of `Service[@version]`; of the newest version if none is given. It is the whole text, also for a
   * caller that may call only some of the methods. @throws KatamariError no_pool
   */
  idl(identity: CallerIdentity, name: string): Document & { readonly version: string } {
    const edition = this.#find(identity, name).at(-1) as Edition;
    let document = this.#idl.get(edition.interface);
    if (document === undefined) {
      document = documentOf(idlText(edition.interface));
      this.#idl.set(edition.interface, document);
    }
    return { ...document, version: edition.version };
  }

  /** Returns a request that the first service of the mesh answers; undefined if there is no service. */
  exampleRequest(identity: CallerIdentity): string | undefined {
    const editions = this.#editions(identity);
    const edition = editions.find(({ service }) => service !== ADMIN_SERVICE) ?? editions[0];
    if (edition === undefined) return undefined;
    const chosen = edition.methods
      .filter(({ oneway }) => !oneway)
      .sort((a, b) => exampleScore(b, edition.service) - exampleScore(a, edition.service))[0];
    if (chosen === undefined) return undefined;
    const params = Object.fromEntries(chosen.args.fields.map(({ name, type }) => [name, exampleOf(type)]));
    return JSON.stringify({ jsonrpc: '2.0', id: 1, method: `${edition.service}.${chosen.name}`, params });
  }

  #whole(identity: CallerIdentity): MeshDocument {
    const editions = this.#editions(identity);
    const key = editions.map(keyOf).join('\n');
    let whole = this.#openRpc.get(key);
    if (whole === undefined) {
      const object = openRpcOf(editions);
      whole = { object, document: documentOf(JSON.stringify(object, undefined, 2)) };
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
function openRpcOf(editions: readonly Edition[]): unknown {
  const schemas: Record<string, object> = {};
  const methods = editions.flatMap((edition, index) => {
    const { service, version } = edition;
    const isNewest = editions[index + 1]?.service !== service;
    const isOnly = isNewest && editions[index - 1]?.service !== service;
    const names = [...(isNewest ? [service] : []), ...(isOnly ? [] : [`${service}@${version}`])];
    return names.flatMap((name) => edition.methods.map((method) => openRpcMethod(name, version, method, schemas)));
  });
  return {
    openrpc: '1.2.6',
    info: {
      title: 'Katamari',
      version: '1.0.0',
      description:
        'Every service in this mesh, as JSON-RPC 2.0 over HTTP: POST /rpc. The IDL itself: GET /idl/Service.thrift.',
    },
    methods,
    components: { schemas },
  };
}

function openRpcMethod(service: string, version: string, method: Method, schemas: Record<string, object>): unknown {
  const { doc, returns, throws } = method;
  return {
    name: `${service}.${method.name}`,
    ...(doc === '' ? {} : { summary: doc.split('\n', 1)[0], description: doc }),
    tags: [{ name: service }],
    paramStructure: 'either',
    params: paramsOf(method, schemas),
    result: { name: 'result', schema: schemaOf(returns, schemas) },
    ...(throws.length === 0
      ? {}
      : {
          errors: throws.map(({ type, name }) => ({
            code: DECLARED_EXCEPTION,
            message: type.kind === 'struct' ? type.struct.name : name,
            data: schemaOf(type, schemas),
          })),
        }),
    'x-katamari-version': version,
    ...(method.oneway ? { 'x-katamari-oneway': true } : {}),
    ...(method.isIdempotent ? { 'x-katamari-idempotent': true } : {}),
    ...(method.isReadonly ? { 'x-katamari-readonly': true } : {}),
    ...(method.timeoutMs > 0 ? { 'x-katamari-timeout-ms': method.timeoutMs } : {}),
  };
}

const ADMIN_SERVICE = 'Katamari';
/** Documents that are kept; each is as large as the interfaces of the mesh. */
const DOCUMENTS_MAX = 16;
