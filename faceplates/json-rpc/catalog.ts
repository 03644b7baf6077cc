// What is in the mesh, for people and programs: the OpenRPC document (`rpc.discover`), IDL files, and a call to begin
// with.
import { paramsOf, schemaOf } from '../../core/idl/mod.ts';
import { KatamariError } from '../../core/mod.ts';
import type { Directory } from '../../core/rpc/mod.ts';
import type { Interface, Method } from '../../core/thrift/mod.ts';
import { parseMethodName } from '../kit/mod.ts';
import { exampleOf } from './example.ts';
import { DECLARED_EXCEPTION } from './rpc-error.ts';

// Reads the directory each time it is asked and keeps the document until the pools it was made from change.

import { createHash } from 'node:crypto';

/** A text that can be handed out, with what tells it from another. */
export interface Document {
  readonly text: string;
  /** Quoted, as HTTP wants it. */
  readonly etag: string;
}

/** One service in one version, whatever the number of its pools. */
interface Edition {
  readonly service: string;
  readonly version: string;
  readonly interface: Interface;
}

/** The OpenRPC document of everything, and what it was made from. */
interface MeshDocument {
  readonly madeFrom: string;
  readonly object: unknown;
  readonly document: Document;
}

export class Catalog {
  readonly #directory: Directory;
  readonly #idl = new WeakMap<Interface, Document>();
  #openRpc: MeshDocument | undefined;

  constructor(directory: Directory) {
    this.#directory = directory;
  }

  /** The OpenRPC document: of everything, or of `Service[@version]`. @throws KatamariError no_pool */
  openRpc(path = ''): unknown {
    return path === '' ? this.#whole().object : openRpcOf(this.#find(path));
  }

  openRpcDocument(): Document {
    return this.#whole().document;
  }

  /** The IDL of `Service[@version]`, of its newest version when none is said. @throws KatamariError no_pool */
  idl(name: string): Document & { readonly version: string } {
    const edition = this.#find(name).at(-1) as Edition;
    let document = this.#idl.get(edition.interface);
    if (document === undefined) {
      document = documentOf(idlText(edition.interface));
      this.#idl.set(edition.interface, document);
    }
    return { ...document, version: edition.version };
  }

  /** A request that the first service of the mesh will answer; undefined while there is none. */
  exampleRequest(): string | undefined {
    const editions = this.#editions();
    const edition = editions.find(({ service }) => service !== ADMIN_SERVICE) ?? editions[0];
    if (edition === undefined) return undefined;
    const chosen = [...edition.interface.methods.values()]
      .filter(({ oneway }) => !oneway)
      .sort((a, b) => charm(b, edition.service) - charm(a, edition.service))[0];
    if (chosen === undefined) return undefined;
    const params = Object.fromEntries(chosen.args.fields.map(({ name, type }) => [name, exampleOf(type)]));
    return JSON.stringify({ jsonrpc: '2.0', id: 1, method: `${edition.service}.${chosen.name}`, params });
  }

  #whole(): MeshDocument {
    const editions = this.#editions();
    const madeFrom = editions
      .map((edition) => `${edition.service}@${edition.version} ${edition.interface.id}`)
      .join('\n');
    if (this.#openRpc?.madeFrom !== madeFrom) {
      const object = openRpcOf(editions);
      return (this.#openRpc = { madeFrom, object, document: documentOf(JSON.stringify(object, undefined, 2)) });
    }
    return this.#openRpc;
  }

  #find(name: string): readonly Edition[] {
    const { service, version } = parseMethodName(`${name}.`);
    const all = this.#editions();
    const editions = all.filter((edition) => edition.service === service);
    const found = editions.filter((edition) => version === '' || edition.version === version);
    if (found.length > 0) return found;
    const instead =
      editions.length > 0
        ? `versions here are ${editions.map((edition) => edition.version).join(', ')}`
        : `services here are ${[...new Set(all.map((edition) => edition.service))].join(', ') || 'none yet'}`;
    throw new KatamariError('no_pool', `No pool offers ${name}: ${instead}`);
  }

  /** In the order of the directory: by service, then version. */
  #editions(): readonly Edition[] {
    const editions = new Map<string, Edition>();
    for (const { details, interface: face } of this.#directory.pools()) {
      const { service, version } = details;
      const name = `${service}@${version}`;
      if (!editions.has(name)) editions.set(name, { service, version, interface: face });
    }
    return [...editions.values()];
  }
}

/**
 * How well a method serves as the first one somebody calls: harmless above all, then the service's own, then one with
 * plain arguments.
 */
function charm({ isReadonly, declaredBy, args }: Method, service: string): number {
  const hasPlainArgs = args.fields.length > 0 && args.fields.every(({ type }) => type.kind !== 'struct');
  return (isReadonly ? 4 : 0) + (declaredBy === service ? 2 : 0) + (hasPlainArgs ? 1 : 0);
}

/** The author's own text when it stands alone, else the one text that has everything in it. */
function idlText({ source, canonical }: Interface): string {
  const names = Object.keys(source.files);
  return (names.length === 1 ? source.files[source.main] : undefined) ?? canonical;
}

function documentOf(text: string): Document {
  return { text, etag: `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"` };
}

/**
 * Methods under their plain name mean the newest version; where there are several, each is listed under its own name
 * too.
 */
function openRpcOf(editions: readonly Edition[]): unknown {
  const schemas: Record<string, object> = {};
  const methods = editions.flatMap((edition, index) => {
    const { service, version } = edition;
    const isNewest = editions[index + 1]?.service !== service;
    const isOnly = isNewest && editions[index - 1]?.service !== service;
    const names = [...(isNewest ? [service] : []), ...(isOnly ? [] : [`${service}@${version}`])];
    return names.flatMap((name) =>
      [...edition.interface.methods.values()].map((method) => openRpcMethod(name, version, method, schemas)),
    );
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
