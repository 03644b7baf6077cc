// Calls the Calculator with the Katamari client, with types from its IDL.
//
//     npx katamari types ../calculator.thrift --out calculator-types.ts
//     npx tsc --target es2022 --module nodenext --types node --rewriteRelativeImportExtensions calculator.ts
//     node calculator.js [PORT]
//
// Runtimes that support TypeScript (Node 22.18 or later) run the .ts directly. Needs katamari and @types/node.

import { connect, KatamariError, ThriftException } from 'katamari/client';
import { Operation, type Calculator } from './calculator-types.ts';

const port = process.argv[2] ?? '9090';
const mesh = connect({ addresses: [`127.0.0.1:${port}`] });

// The interface comes from the mesh. With `idl: 'calculator.thrift'` the client need not load it.
const calculator = mesh.service<Calculator>('Calculator');
console.log('2 + 40 =', await calculator.add({ num1: 2, num2: 40 }));
try {
  await calculator.calculate({ logid: 1, w: { num1: 1, num2: 0, op: Operation.DIVIDE } });
} catch (error) {
  if (!(error instanceof ThriftException)) throw error; // declared in the IDL
  console.log('1 / 0:', error.fields['why']);
}
try {
  await calculator.add({ num1: 2 ** 31 - 1, num2: 1 });
} catch (error) {
  if (!(error instanceof KatamariError)) throw error; // an error of the mesh, or an undeclared error of the handler
  console.log(`error ${error.code}: ${error.message}`);
}

// Select a version for all calls of a service, and a timeout for one call.
const first = mesh.service<Calculator>('Calculator', { version: '^1' });
const w = { num1: 15, num2: 10, op: Operation.SUBTRACT };
console.log('15 - 10 =', await first.calculate({ logid: 1, w }, { timeoutMs: 2_000 }));

// Concurrent calls share one connection, and replies can overtake each other.
const products = [6, 7].map((num2) =>
  calculator.calculate({ logid: num2, w: { num1: 6, num2, op: Operation.MULTIPLY } }),
);
console.log('6 * 7 =', (await Promise.all(products))[1]);

await mesh.drain();
