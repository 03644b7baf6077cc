// `npm run matrix` runs the cross-language matrix of test/kit/matrix/table.ts. It prints the matrix as a table, then
// the combinations that are not compared, with the reason, and the differences. The exit code is 1 if any answer
// differs.

import { parseArgs } from 'node:util';
import { CHASSIS } from '../test/kit/matrix/chassis.ts';
import { LANGUAGES } from '../test/kit/matrix/languages.ts';
import { differenceLines, exceptionLines, matrixTable, runMatrix } from '../test/kit/matrix/table.ts';

const HELP = `npm run matrix -- [options]

Clients in ${LANGUAGES.join(', ')} call the same service of chassis in
${CHASSIS.join(', ')} through a mesh. They use every transport and protocol of their
official libraries, plain and multiplexed. Every answer is compared with the expected one. A cell of the
table shows the number of compared answers: plain, and multiplexed.

  --client NAME     only this client (may be repeated)
  --chassis NAME    only this chassis (may be repeated)
  -h, --help
`;

const { values } = parseArgs({
  options: {
    client: { type: 'string', multiple: true },
    chassis: { type: 'string', multiple: true },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  console.log(HELP);
  process.exit(0);
}

const languages = chosen('client', LANGUAGES, values.client);
const chassis = chosen('chassis', CHASSIS, values.chassis);
// On a signal, exit normally, so that the exit handlers end all child processes.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));
const results = await runMatrix({ languages, chassis, onProgress: (line) => console.error(line) });
const differences = differenceLines(results);
const compared = results.reduce((sum, result) => sum + result.compared, 0);
for (const line of matrixTable(results)) console.log(line);
console.log('\nNot compared, because of a bug in a client library:');
for (const line of exceptionLines(languages)) console.log(`  ${line}`);
console.log('');
for (const line of differences) console.log(`DIFFERS  ${line}`);
console.log(`${compared} answers compared in ${results.length} runs, ${differences.length} differ.`);
process.exit(differences.length === 0 ? 0 : 1);

function chosen<Name extends string>(option: string, all: readonly Name[], names: readonly string[] = all): Name[] {
  return names.map((name) => {
    const found = all.find((one) => one.toLowerCase() === name.toLowerCase());
    if (found !== undefined) return found;
    console.error(`--${option}: found "${name}", expected one of ${all.join(', ')}`);
    process.exit(2);
  });
}
