// Finds the sticky key of calls that bring none, in the argument that the route of their service names (`sticky`). It
// reads the bytes of the call. A faceplate that encodes arguments has no bytes before it knows the pool, so it lends
// its encoder, and the interfaces of the service are tried until one takes the arguments.

import { argumentFinder } from '../../core/idl/mod.ts';
import type { PoolQuery } from '../../core/rpc/mod.ts';
import { FieldFinder, type Interface, type Method } from '../../core/thrift/mod.ts';
import type { Offer } from './offer.ts';
import type { Route } from './route.ts';

/** Arguments that were encoded to find a key. */
export interface EncodedArguments {
  readonly interface: Interface;
  readonly args: Uint8Array;
}

/** A method that has the argument, in one interface. */
interface StickyMethod {
  readonly interface: Interface;
  readonly method: Method;
  readonly finder: FieldFinder;
}

export class ArgumentKey {
  readonly path: string;
  readonly #offers: readonly Offer[];
  /** By name of the method, one for each interface of the service that has the argument. */
  readonly #methods: Map<string, readonly StickyMethod[]> = new Map();

  /** @param offers all of the service: the client of any version may have encoded the arguments */
  constructor(path: string, offers: readonly Offer[]) {
    this.path = path;
    this.#offers = offers;
  }

  static forRoute(route: Route | undefined, offers: readonly Offer[]): ArgumentKey | undefined {
    return route?.sticky === undefined ? undefined : new ArgumentKey(route.sticky, offers);
  }

  /**
   * Returns the key of a call; '' if its argument is missing or empty.
   * @param offers those that may get the call
   * @param into gets the arguments if they had to be encoded
   */
  of(query: PoolQuery, offers: readonly Offer[], into: { encoded?: EncodedArguments }): string {
    const { args, encoder } = query;
    const methods = this.#methods.get(query.method) ?? this.#compile(query.method);
    for (const { interface: iface, method, finder } of methods) {
      let bytes = args;
      if (bytes === undefined) {
        const offer = offers.find((one) => one.interface.id === iface.id);
        if (offer === undefined || encoder === undefined) continue;
        try {
          bytes = encoder.encode(method, offer);
        } catch {
          // Another version may take these arguments. If none does, the version that the call gets says what is wrong.
          continue;
        }
        into.encoded = { interface: iface, args: bytes };
        return finder.find(bytes);
      }
      const key = finder.find(bytes);
      if (key !== '') return key;
    }
    return '';
  }

  /** Why calls of a method have no key, for people; '' if one of the versions has the argument. */
  whyNone(name: string): string {
    const methods = this.#offers.flatMap(({ interface: iface }) => iface.methods.get(name) ?? []);
    const found = methods.map((method) => argumentFinder(method, this.path));
    const [problem] = found.some((one) => one instanceof FieldFinder) ? [] : found;
    return problem === undefined || problem instanceof FieldFinder ? '' : problem.text;
  }

  #compile(name: string): readonly StickyMethod[] {
    const interfaces = new Map(this.#offers.map((offer) => [offer.interface.id, offer.interface]));
    const methods = [...interfaces.values()].flatMap((iface): StickyMethod[] => {
      const method = iface.methods.get(name);
      const finder = method === undefined ? undefined : argumentFinder(method, this.path);
      return method !== undefined && finder instanceof FieldFinder ? [{ interface: iface, method, finder }] : [];
    });
    this.#methods.set(name, methods);
    return methods;
  }
}
