// A TypeScript client that uses only fetch: sends one query to both versions of Reformulate in one JSON-RPC batch, and
// prints the results side by side.
//
//     compare.ts "chaep runing shoes" [http://127.0.0.1:9080]
import type { Analysis } from '../reformulate/reformulator.ts';

interface Answer {
  readonly id: string;
  readonly result?: Omit<Analysis, 'suggestions' | 'synonyms'> & {
    readonly suggestions: Readonly<Record<string, readonly { readonly word: string }[]>>;
    readonly synonyms: Readonly<Record<string, readonly string[]>>;
  };
  readonly error?: { readonly code: number; readonly message: string };
}

const [query = 'chaep runing shoes', server = 'http://127.0.0.1:9080'] = process.argv.slice(2);
const versions = ['1.0.0', '2.0.0'];

const response = await fetch(`${server}/rpc`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(
    versions.map((version) => ({
      jsonrpc: '2.0',
      id: version,
      method: `Reformulate@${version}.analyze`,
      params: { query },
    })),
  ),
});
const answers = (await response.json()) as readonly Answer[];

for (const version of versions) {
  const answer = answers.find(({ id }) => id === version);
  console.log(`\nReformulate ${version}`);
  if (!answer?.result) {
    console.log(`  failed: ${answer?.error?.message ?? `HTTP status ${response.status}`}`);
    process.exitCode = 1;
    continue;
  }
  const { tokens, suggestions, synonyms, corrected } = answer.result;
  console.log(`  stems       ${tokens.map(({ stem }) => stem).join(' ')}`);
  console.log(`  corrected   ${corrected ?? '(nothing to correct)'}`);
  for (const [word, meant] of Object.entries(suggestions)) {
    console.log(`  ${word}: did you mean ${meant.map((suggestion) => suggestion.word).join(', ')}`);
  }
  for (const [word, others] of Object.entries(synonyms)) console.log(`  ${word}: also ${others.join(', ')}`);
}
