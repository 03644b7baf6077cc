// Searches the index `docs`: prints how many sections match, then the best of them, in pages of three.
//
//     search.ts QUERY [PORT]

import { connect, ThriftException } from 'katamari/client';

interface Value {
  readonly text?: string;
  readonly whole?: number | bigint;
}

/** The methods of idl/search.thrift that this program calls. The mesh fills in what it leaves out. */
interface TextIndex {
  count(args: { query: string }): Promise<number | bigint>;
  search(args: { query: string; count: number; fields: string[]; after: string }): Promise<{
    readonly hits: readonly { readonly score: number; readonly fields: ReadonlyMap<string, readonly Value[]> }[];
    /** Where the next page begins; '' after the last hit. */
    readonly cursor: string;
  }>;
}

const PAGES = 2;
const FIELDS = ['path', 'line', 'heading'];
const [query = 'manager dies', port = '9090'] = process.argv.slice(2);
const mesh = connect({ addresses: [`127.0.0.1:${port}`] });
const docs = mesh.service<TextIndex>('docs');
try {
  console.log(`${await docs.count({ query })} sections match`);
  let after = '';
  for (let page = 1; page <= PAGES; page++) {
    const { hits, cursor } = await docs.search({ query, count: 3, fields: FIELDS, after });
    console.log(`page ${page}`);
    for (const { score, fields } of hits) {
      const [path, line, heading] = FIELDS.map((name) => fields.get(name)?.[0]);
      console.log(`  ${score.toFixed(3)}  ${path?.text}:${line?.whole}  ${heading?.text}`);
    }
    if (cursor === '') break;
    after = cursor;
  }
} catch (error) {
  if (!(error instanceof ThriftException)) throw error; // BadQuery, which the IDL declares
  console.log(`Bad query: ${String(error.fields['why'])}`);
  process.exitCode = 1;
}
await mesh.drain();
