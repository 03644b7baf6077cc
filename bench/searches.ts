// The rows about indices: searches, counts and look-ups over 8 shards on two managers, beside a plain call of the same
// mesh. They compare the CPU time of all processes for a call, which other load on the machine changes least.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { encodeStruct, parseIdl, readIdlFile } from '../core/idl/mod.ts';
import type { Method } from '../core/thrift/mod.ts';
import { REPOSITORY } from '../test/kit/tools/repository.ts';
import { BENCH_FILES, ECHO_IDL, textOf } from './echo.ts';
import { median } from './figures.ts';
import { startIndexMesh, type IndexMesh } from './index-mesh.ts';
import { cpuMs, processTree, run } from './programs.ts';
import type { Effort, Row } from './works.ts';

interface Work {
  readonly name: string;
  readonly callers: number;
  /** Goal: the most CPU time for a call, in plain calls. */
  readonly bound: number;
  /** Messages, which callers send in turn. */
  readonly frames: (mesh: IndexMesh, round: number) => readonly Buffer[];
}

interface MeasuredCalls {
  readonly cpuUs: number;
  readonly faceplateUs: number;
  readonly p50Us: number;
  /** Right calls a second, of all callers. */
  readonly perSecond: number;
}

/** Measures the works in turn with a plain call before each, round after round. */
export async function searches(effort: Effort): Promise<readonly Row[]> {
  const mesh = await startIndexMesh(effort.runtime);
  const results = WORKS.map(() => ({ ours: [] as MeasuredCalls[], theirs: [] as MeasuredCalls[] }));
  try {
    for (const { frames, callers } of [PLAIN, ...WORKS]) await drive(mesh, frames(mesh, 0), callers, effort.warmUp, 0);
    for (let round = 1; round <= effort.rounds; round++) {
      for (const [at, { name, callers, frames }] of WORKS.entries()) {
        const theirs = await drive(mesh, PLAIN.frames(mesh, round), callers, effort.seconds, SETTLE_S);
        const ours = await drive(mesh, frames(mesh, round), callers, effort.seconds, SETTLE_S);
        results[at]?.theirs.push(theirs);
        results[at]?.ours.push(ours);
        effort.onProgress(
          `round ${round}: ${name}, ${callersText(callers)}: ${ours.cpuUs.toFixed(0)} us, ${ours.faceplateUs.toFixed(0)} of them in the faceplate, ${ours.perSecond.toFixed(0)}/s; plain ${theirs.cpuUs.toFixed(0)}, ${theirs.faceplateUs.toFixed(0)} us`,
        );
      }
    }
  } finally {
    await mesh.close();
  }
  return WORKS.map(({ name, callers, bound }, at) => {
    const { ours = [], theirs = [] } = results[at] ?? {};
    const msOf = (calls: readonly MeasuredCalls[]): string =>
      (median(calls.map(({ p50Us }) => p50Us)) / 1_000).toFixed(2);
    const perSecond = median(ours.map((one) => one.perSecond)).toFixed(0);
    const faceplateUs = median(ours.map((one) => one.faceplateUs)).toFixed(0);
    return {
      work: `CPU of a ${name} over 8 shards on two managers, ${callersText(callers)} / of a plain call`,
      bound,
      isAtMost: true,
      ours: ours.map(({ cpuUs }) => cpuUs),
      theirs: theirs.map(({ cpuUs }) => cpuUs),
      unit: ' us',
      note: `${mesh.text}, ${perSecond}/s, p50 ${msOf(ours)} / ${msOf(theirs)} ms, ${faceplateUs} us in the faceplate`,
    };
  });
}

async function drive(
  { port, pids, faceplate }: IndexMesh,
  frames: readonly Buffer[],
  callers: number,
  seconds: number,
  warmUp: number,
): Promise<MeasuredCalls> {
  const file = path.join(BENCH_FILES, 'frames');
  writeFileSync(file, Buffer.concat(frames));
  const before = new Map(pids.flatMap(processTree).map((pid) => [pid, cpuMs([pid])]));
  const caller = path.join(REPOSITORY, 'bench', 'contenders', 'frame-caller.mjs');
  const args = ['127.0.0.1', port, file, callers, seconds, warmUp].map(String);
  const said = await run([process.execPath, caller, ...args], (seconds + warmUp + 30) * 1_000);
  const report = JSON.parse(said.trim().split('\n').at(-1) ?? '') as {
    readonly right: number;
    readonly wrong: number;
    readonly p50Us: number;
  };
  if (report.wrong > 0) throw new Error(`${report.wrong} of ${report.right + report.wrong} replies were wrong`);
  const calls = (report.right * (seconds + warmUp)) / seconds;
  const usOf = (pid: number): number => (Math.max(0, cpuMs([pid]) - (before.get(pid) ?? 0)) * 1_000) / calls;
  return {
    // The process that fetched the shards may have ended meanwhile.
    cpuUs: [...before.keys()].reduce((sum, pid) => sum + usOf(pid), 0),
    faceplateUs: usOf(faceplate),
    p50Us: report.p50Us,
    perSecond: report.right / seconds,
  };
}

const search = methodsOf('idl/search.thrift', 'TextContent');
const lookup = methodsOf('idl/lookup.thrift', 'MapContent');
const echo = methodsOf(ECHO_IDL, 'Echo');

function methodsOf(file: string, service: string): (name: string) => Method {
  const iface = parseIdl(readIdlFile(path.resolve(REPOSITORY, file))).services.get(service);
  return (name) => iface?.methods.get(name) as Method;
}

/** A framed call in strict binary, with the service in its name. */
function frame(service: string, method: Method, args: Readonly<Record<string, unknown>>): Buffer {
  const body = encodeStruct(method.args, args);
  const name = Buffer.from(`${service}:${method.name}`);
  const head = Buffer.alloc(12 + name.length + 4);
  head.writeInt32BE(head.length - 4 + body.length, 0);
  head.writeUInt32BE(0x80010001, 4);
  head.writeInt32BE(name.length, 8);
  name.copy(head, 12);
  return Buffer.concat([head, body]);
}

/** Two words, neither in most documents nor in one. */
function knownQueries({ words }: IndexMesh): readonly string[] {
  return Array.from({ length: KNOWN }, (_, at) => `${words[20 + at]} OR ${words[100 + at]}`);
}

/** Queries that nobody has asked before. @param part from 0 to 99, of all queries */
function newQueries({ words }: IndexMesh, part: number): readonly string[] {
  const some = words.slice(20, 120);
  return Array.from({ length: NEW }, (_, at) => {
    const number = part * NEW + at;
    const [a, b, c] = [number % 100, Math.floor(number / 100) % 100, Math.floor(number / 10_000) % 100];
    return `${some[a]} OR ${some[b]} OR ${words[200 + c]}`;
  });
}

const PLAIN: Pick<Work, 'callers' | 'frames'> = {
  callers: 1,
  frames: () => [frame('Echo', echo('echo'), { value: textOf(16) })],
};

/** One caller shows the latency of a search, many show what the machine can do in a second. */
const WORKS: readonly Work[] = [
  ...worksOf('text', 'TextSearch', 1, { known: 6, new: 12, count: 4 }),
  ...worksOf('text', 'TextSearch', 12, { known: 12, new: 24, count: 6 }),
  ...worksOf('lucene', 'Lucene', 1, { known: 12, new: 24, count: 6 }),
  ...worksOf('lucene', 'Lucene', 12, { known: 24, new: 48, count: 12 }),
  {
    name: 'look-up of a key',
    callers: 15,
    bound: 6,
    frames: ({ keys }) => keys.map((key) => frame('pairs', lookup('get'), { key: Buffer.from(key) })),
  },
];

/** Searches and counts in one engine. */
function worksOf(
  index: string,
  engine: string,
  callers: number,
  bounds: { readonly known: number; readonly new: number; readonly count: number },
): readonly Work[] {
  return [
    {
      name: `search with known statistics in ${engine}`,
      callers,
      bound: bounds.known,
      frames: (mesh) => knownQueries(mesh).map((query) => frame(index, search('search'), { query, count: 10 })),
    },
    {
      name: `search with a new query in ${engine}`,
      callers,
      bound: bounds.new,
      frames: (mesh, round) =>
        newQueries(mesh, 2 * round + Math.sign(callers - 1)).map((query) =>
          frame(index, search('search'), { query, count: 10 }),
        ),
    },
    {
      name: `count in ${engine}`,
      callers,
      bound: bounds.count,
      frames: (mesh) => knownQueries(mesh).map((query) => frame(index, search('count'), { query })),
    },
  ];
}

function callersText(callers: number): string {
  return `${callers} ${callers === 1 ? 'caller' : 'callers'}`;
}

const KNOWN = 32;
const NEW = 10_000;
/** Processes that had nothing to do for a while are slow at first: their memory is no longer in the caches. */
const SETTLE_S = 1.5;
