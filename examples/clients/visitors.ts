// A TypeScript client that uses only fetch: makes the calls of many visitors of a search page. Each visitor has a name,
// which is the sticky key, and misspells a word. The page shows the first suggestion, and the visitor clicks it if it
// is the right word. The client reports each click, or its absence, for the version that the visitor got.
//
//     visitors.ts [count] [http://127.0.0.1:9080]

/** What a visitor types, and the word that is meant. */
const typos = [
  ['chaep', 'cheap'],
  ['runing', 'running'],
  ['tommorow', 'tomorrow'],
  ['recieve', 'receive'],
  ['teh', 'the'],
  ['accomodate', 'accommodate'],
  ['begining', 'beginning'],
  ['definately', 'definitely'],
  ['neccessary', 'necessary'],
  ['seperate', 'separate'],
] as const;

interface SuggestAnswer {
  readonly result?: readonly { readonly word: string }[] | null;
  readonly error?: { readonly message: string };
}

const [count = '500', server = 'http://127.0.0.1:9080'] = process.argv.slice(2);
const visitors = Number(count);
const perVersion = new Map<string, { visitors: number; clicks: number }>();
let next = 0;
let failed = 0;

async function call(method: string, params: object, key = ''): Promise<{ answer: SuggestAnswer; version: string }> {
  const response = await fetch(`${server}/rpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(key === '' ? {} : { 'katamari-key': key }) },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  const answer = (await response.json()) as SuggestAnswer;
  return { answer, version: response.headers.get('katamari-version') ?? '' };
}

async function visit(visitor: number): Promise<void> {
  const key = `visitor-${visitor}`;
  const [word, meant] = typos[visitor % typos.length] as (typeof typos)[number];
  const { answer, version } = await call('Reformulate.suggest', { word, limit: 1 }, key);
  if (answer.error !== undefined) {
    failed++;
    console.error(`visitor-${visitor}: ${answer.error.message}`);
    return;
  }
  const isClicked = answer.result?.[0]?.word === meant;
  const outcome = { experiment: 'Reformulate', key, metric: 'click', value: isClicked ? 1 : 0 };
  const { answer: counted } = await call('katamari.Mesh.outcome', outcome);
  if (counted.error !== undefined) console.error(`outcome of visitor-${visitor}: ${counted.error.message}`);
  const sums = perVersion.get(version) ?? { visitors: 0, clicks: 0 };
  sums.visitors++;
  if (isClicked) sums.clicks++;
  perVersion.set(version, sums);
}

async function visitInTurn(): Promise<void> {
  while (next < visitors) await visit(next++);
}

await Promise.all(Array.from({ length: 4 }, visitInTurn));
console.log(`${visitors} visitors, ${failed} failed`);
for (const [version, sums] of [...perVersion].sort()) {
  console.log(`  ${version}: ${sums.visitors} visitors, ${sums.clicks} clicks`);
}
if (failed > 0) process.exitCode = 1;
