// The chassis of either version: the same IDL and handlers over different parts.
import { chassis, ThriftException } from 'katamari';
import { createReformulator, QueryRefused } from './reformulator.ts';
import type { Parts } from './reformulator.ts';

/** Serves Reformulate in this process. Ends when the mesh says so. */
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
  // The word list and the thesaurus take some tenths of a second to read: not at the start, when all copies of a mesh
  // want the processor, but as a rule before anybody asks.
  setTimeout(() => methods.analyze({ query: 'wram up' }), warmUpAfterMs).unref();
}

const warmUpAfterMs = 1500;

/** The method with QueryRefused as the exception that the IDL declares. */
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
