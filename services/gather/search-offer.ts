// Searches in several indices at once (service KatamariSearch of idl/search.thrift). The shards of all of them are
// searched as those of one index, so that scores can be compared.

import { decodeStruct, encodeStruct, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { asKatamariError, clipText, KatamariError, SHARDS_MAX } from '../../core/mod.ts';
import { NO_DETAILS, NONE, withCall, type Call, type PoolDetails, type Send } from '../../core/rpc/mod.ts';
import type { Interface, Method } from '../../core/thrift/mod.ts';
import type { Offer } from '../mesh/mod.ts';
import { gatherCall } from './gather-call.ts';
import { CountedSink } from './gather-counts.ts';
import type { IndexOffer } from './index-offer.ts';
import type { GatherTools } from './gather-tools.ts';
import { NAME_CHARS_MAX } from './limits.ts';
import { searchCall } from './search-call.ts';
import { serversText, type ServedIndex, type ShardMap } from './shard-map.ts';

export interface SearchOfferOptions {
  /** Name of this process, which gathers. */
  readonly self: string;
  /** Version of the service. */
  readonly version: string;
  readonly tools: GatherTools;
  readonly map: ShardMap;
  /** Names of the indices that are offered. */
  readonly names: () => readonly string[];
  /** The version of an index that a call gets. @throws KatamariError no_pool, denied */
  readonly choose: (call: Call, name: string, version: string) => IndexOffer;
}

export class SearchOffer implements Offer {
  readonly id: string;
  readonly manager: string;
  readonly details: PoolDetails;
  readonly interface: Interface = searchInterface();
  readonly isReachable = true;
  readonly queued = 0;
  readonly free = 1;
  readonly alive = 1;
  readonly #options: SearchOfferOptions;

  constructor(options: SearchOfferOptions) {
    this.id = `${SERVICE}@${options.version}`;
    this.manager = options.self;
    this.details = { service: SERVICE, version: options.version, roles: NONE, tags: NONE, more: NO_DETAILS };
    this.#options = options;
  }

  readonly send: Send = (call, caller) => {
    let sink = caller;
    try {
      const { tools } = this.#options;
      const asked = this.interface.methods.get(call.method) as Method;
      const { indices, ...params } = decodeStruct(asked.args, call.args) as { indices?: readonly string[] };
      const offers = this.#chosen(call, indices ?? []);
      const [first] = offers as [IndexOffer];
      const method = textMethod(first, call.method);
      sink = new CountedSink(caller, tools.counts.of(offers.length === 1 ? first.id : SEVERAL, method.name));
      for (const offer of offers) textMethod(offer, call.method);
      const args = encodeStruct(method.args, params);
      const index = this.#union(offers);
      if (method.gather === 'search') searchCall(tools, index, first.interface, withCall(call, { args }), sink);
      else gatherCall(tools, index, method, withCall(call, { args }), sink);
    } catch (error) {
      sink.fail(asKatamariError(error));
    }
  };

  /** The version of each index, each once. @throws KatamariError */
  #chosen(call: Call, indices: readonly string[]): readonly IndexOffer[] {
    const names = this.#options.names();
    if (indices.length > INDICES_MAX) throw tooManyIndices(indices.length);
    const wanted = indices.flatMap((text) => {
      const [pattern = '', version = ''] = text.split('@');
      const matching = pattern.includes('*') ? names.filter((name) => isMatch(name, pattern)) : [pattern];
      return matching.map((name) => [name, version] as const);
    });
    if (wanted.length > INDICES_MAX) throw tooManyIndices(wanted.length);
    if (wanted.length === 0) {
      const asked = clipText(indices.join(', '), NAME_CHARS_MAX) || '""';
      const why = `No index is called ${asked}; indices are ${names.slice(0, NAMES_SHOWN_MAX).join(', ') || 'none'}`;
      throw new KatamariError('no_pool', why, { notRun: true });
    }
    const chosen = wanted.map(([name, version]) => this.#options.choose(call, name, version));
    return [...new Map(chosen.map((offer) => [offer.id, offer])).values()];
  }

  #union(offers: readonly IndexOffer[]): ServedIndex {
    const views = offers.map(({ id }) => {
      const view = this.#options.map.get(id);
      if (view === undefined) throw new KatamariError('no_pool', `${id} has been removed`, { notRun: true });
      return view;
    });
    const [only] = views;
    if (views.length === 1 && only !== undefined) return only;
    const names = views.flatMap((view) => view.names);
    if (names.length > SHARDS_MAX) {
      const why = `The search is in ${names.length} shards, limit is ${SHARDS_MAX}; search in fewer indices`;
      throw new KatamariError('bad_request', why, { notRun: true });
    }
    const manifest = views.map((view) => view.manifest).join(' ');
    const again = (): ServedIndex | undefined => {
      if (offers.some(({ id }) => this.#options.map.get(id) === undefined)) return undefined;
      const now = this.#union(offers);
      return now.manifest === manifest ? now : undefined;
    };
    const managers = [...new Set(views.flatMap((view) => view.managers))];
    return {
      id: views.map(({ id }) => id).join(', '),
      manifest,
      names,
      places: names.map((_, place) => place),
      placeOf: new Map(names.map((name, place) => [name, place])),
      holders: views.flatMap(({ holders }) => holders),
      failures: new Map(views.flatMap(({ failures }) => [...failures])),
      managers,
      server: serversText(managers),
      again,
    };
  }
}

function tooManyIndices(count: number): KatamariError {
  return new KatamariError('bad_request', `The search is in ${count} indices, limit is ${INDICES_MAX}`, {
    notRun: true,
  });
}

/** @throws KatamariError bad_request for an index whose content service does not search text */
function textMethod({ id, interface: { methods } }: IndexOffer, name: string): Method {
  const method = methods.get(name);
  if (methods.get('search')?.gather === 'search' && method?.gather !== undefined) return method;
  const why = `${id} cannot be searched: its content service does not extend TextContent of search.thrift`;
  throw new KatamariError('bad_request', why, { notRun: true });
}

/** Whether a name matches a pattern with `*` for any characters. Patterns of callers must not backtrack. */
function isMatch(name: string, pattern: string): boolean {
  const parts = pattern.split('*');
  const [first = ''] = parts;
  const last = parts.at(-1) ?? '';
  if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length) return false;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at);
    if (found === -1 || found + part.length > name.length - last.length) return false;
    at = found + part.length;
  }
  return true;
}

function searchInterface(): Interface {
  known ??= parseIdl(readIdlFile(new URL('../../idl/search.thrift', import.meta.url))).services.get(SERVICE);
  if (known === undefined) throw new KatamariError('internal', `idl/search.thrift has no service ${SERVICE}`);
  return known;
}

let known: Interface | undefined;
const SERVICE = 'KatamariSearch';
/** Name under which calls over several indices are counted. */
const SEVERAL = '*@';
const INDICES_MAX = 100;
const NAMES_SHOWN_MAX = 20;
