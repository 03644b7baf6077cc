// The chassis of both versions: the same IDL and handlers with different components.
import { chassis, ThriftException } from 'katamari';
import { createReformulator, QueryRefused } from './reformulator.ts';
import type { Parts } from './reformulator.ts';

/** Serves Reformulate in this process until the mesh stops it. */
export async function serveReformulate(version: string, parts: Parts): Promise<void> {
  const methods = createReformulator(parts);
  await chassis({
    idl: new URL('../reformulate.thrift', import.meta.url),
    service: 'Reformulate',
    version,
    tags: ['sample'],
    handlers: {
      analyze: declared(methods.analyze),
      tokenize: declared(methods.tokenize),
      stem: declared(methods.stem),
      suggest: declared(methods.suggest),
      synonyms: declared(methods.synonyms),
    },
  });
  // Reading the word list and the thesaurus takes a few tenths of a second. Do it shortly after the start, when the
  // copies of the mesh no longer compete for the processor, but usually before the first call.
  setTimeout(() => methods.analyze({ query: 'wram up' }), warmUpAfterMs).unref();
}

const warmUpAfterMs = 1500;

/** Wraps a method so that QueryRefused becomes the exception that the IDL declares. */
function declared<A, R>(method: (args: A) => R): (args: A) => R {
  return (args) => {
    try {
      return method(args);
    } catch (error) {
      if (error instanceof QueryRefused) throw new ThriftException('QueryRefused', { why: error.message });
      throw error;
    }
  };
}
