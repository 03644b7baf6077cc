// `npm run fuzz` sends hostile input to every port of a mesh (test/fuzz/mesh-run.ts). It prints the progress, then a
// table. The exit code is 1 if the mesh was not as it should be afterwards.

import { parseArgs } from 'node:util';
import { runMeshFuzz, type MeshRun } from '../test/fuzz/mesh-run.ts';
import { startMeshTarget, type Vitals } from '../test/fuzz/mesh-target.ts';

const HELP = `npm run fuzz -- [options]

Starts a mesh with all its ports, and sends hostile input to each of them: Thrift, JSON-RPC, web, lines,
stats, the link before and after its handshake, the embedded Consul with and without its token, and the
sockets of chassis. Hostile chassis and hostile peers answer the mesh. Afterwards the same processes must
answer right calls on every port, count no defect, and use as much memory, files and CPU as before.

  --inputs N        number of inputs, in equal shares for all lanes (100000)
  --seed N          repeat the inputs of another run (their timing may differ)
  --only LANE:N     play only input N of a lane, as the report of a failure names it
  -h, --help
`;

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '100000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    only: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  console.log(HELP);
  process.exit(0);
}

const [inputs, seed] = [wholeNumber('inputs', values.inputs), wholeNumber('seed', values.seed)];
const only = values.only === undefined ? undefined : oneInput(values.only);
// On a signal, exit normally, so that the exit handlers end all child processes.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));
console.log(`${inputs} inputs, seed ${seed}`);
const target = await startMeshTarget();
process.on('exit', () => target.kill());
const startedAt = performance.now();
let failed = 0;
try {
  const run = await runMeshFuzz(target, {
    seed,
    inputs,
    ...(only === undefined ? {} : { only }),
    onProgress: (done) => console.log(`${elapsed()} s  ${done} inputs`),
    onWindow: (window, vitals) => console.log(`${elapsed()} s  window ${window}: ${vitalsText(vitals)}`),
  });
  for (const line of table(run)) console.log(line);
  for (const line of run.violations) {
    console.log(`VIOLATION  ${line}`);
    failed++;
  }
} catch (error) {
  console.log(`VIOLATION  ${(error as Error).message}`);
  failed++;
}
console.log(failed === 0 ? 'No violations.' : `${failed} violations; repeat with --seed ${seed}`);
await target.close();
process.exit(failed === 0 ? 0 : 1);

function elapsed(): string {
  return ((performance.now() - startedAt) / 1_000).toFixed(0).padStart(5);
}

function vitalsText({ heapBytes, rssBytes, files, cpuMs, heldMs, chassisRssBytes, chassisFiles }: Vitals): string {
  return `heap ${mib(heapBytes)}, process ${mib(rssBytes)}, ${files} files, CPU ${(cpuMs / 1_000).toFixed(1)} s, event loop held up to ${heldMs} ms; chassis ${mib(chassisRssBytes)}, ${chassisFiles} files`;
}

function table({ report, vitals, canaries, restShare, growth }: MeshRun): string[] {
  const rows = [...report.byLane].map(([lane, { inputs: sent, connections, answeredBytes, seconds }]) =>
    [
      lane.padEnd(18),
      String(sent).padStart(9),
      (sent / seconds).toFixed(0).padStart(8),
      String(connections).padStart(12),
      (answeredBytes / 2 ** 20).toFixed(1).padStart(13),
    ].join(''),
  );
  const refused = Object.entries(canaries.refused).map(([port, count]) => `${count} ${port}`);
  return [
    '',
    `${'lane'.padEnd(18)}${'inputs'.padStart(9)}${'per s'.padStart(8)}${'connections'.padStart(12)}${'answered MiB'.padStart(13)}`,
    ...rows,
    `${'all'.padEnd(18)}${String(report.inputs).padStart(9)}${((report.inputs * 1_000) / (performance.now() - startedAt)).toFixed(0).padStart(8)}`,
    '',
    `before          ${vitalsText(vitals[0] as Vitals)}`,
    `afterwards      ${vitalsText(vitals.at(-1) as Vitals)}`,
    `growth          heap ${mib(growth.heapBytes)}, process ${mib(growth.rssBytes)}, ${growth.files} files; chassis ${mib(growth.chassisRssBytes)}, ${growth.chassisFiles} files`,
    `right calls     ${canaries.right} answered right, refused under load: ${refused.join(', ') || 'none'}`,
    `CPU at rest     ${(restShare * 100).toFixed(1)} % of a core`,
    '',
  ];
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function oneInput(text: string): { lane: string; number: number } {
  const [, lane = '', number = ''] = /^(.+):(\d+)$/.exec(text) ?? [];
  if (lane === '') {
    console.error(`--only: found "${text}", expected LANE:NUMBER`);
    process.exit(2);
  }
  return { lane, number: Number(number) };
}

function wholeNumber(name: string, text: string): number {
  const number = Number(text);
  if (Number.isSafeInteger(number) && number > 0) return number;
  console.error(`--${name}: found "${text}", expected a whole number above 0`);
  process.exit(2);
}
