// Formats the results of a run: tables for the terminal, Markdown with a chart, and JSON.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { REPOSITORY } from '../test/kit/tools/repository.ts';
import { median, spread } from './figures.ts';
import type { GridCell, Idle, Row } from './works.ts';

export interface Run {
  readonly machine: Readonly<Record<string, string>>;
  readonly rounds: number;
  readonly seconds: number;
  readonly grid: readonly GridCell[];
  readonly rows: readonly Row[];
  readonly idle: Idle | undefined;
}

export function machineFacts(runtime: string): Record<string, string> {
  const [cpu] = os.cpus();
  return {
    machine: `${os.cpus().length} x ${cpu?.model ?? 'unknown'}, ${Math.round(os.totalmem() / 2 ** 30)} GiB, Linux ${os.release()}`,
    mesh: `${runtime} ${versionOf(runtime)}`,
    chassis: `node ${process.versions.node}`,
    thrift: packageVersion('node_modules/thrift'),
    jayson: packageVersion('node_modules/jayson'),
    moleculer: `${packageVersion('bench/node_modules/moleculer')}, moleculer-web ${packageVersion('bench/node_modules/moleculer-web')}`,
    nats: `${firstLine('nats-server', '--version')}, client ${packageVersion('bench/node_modules/@nats-io/transport-node')}`,
    haproxy: firstLine('haproxy', '-v'),
  };
}

export function ratioOf({ ratio, ours, theirs }: Row): number {
  return ratio ?? median(ours) / median(theirs);
}

export function isReached(row: Row): boolean {
  return row.isAtMost === true ? ratioOf(row) <= row.bound : ratioOf(row) >= row.bound;
}

export function gridTable(grid: readonly GridCell[]): string[][] {
  const head = [
    'contender',
    'connections',
    'bytes',
    'calls/s',
    'spread',
    'p50 ms',
    'p99 ms',
    'p99.9 ms',
    'CPU us/call',
    'load',
  ];
  const rows = grid.map(({ contender, connections, bytes, rounds }) => {
    const of = (pick: (measured: GridCell['rounds'][number]) => number): number => median(rounds.map(pick));
    const perSecond = rounds.map((measured) => measured.perSecond);
    return [
      contender,
      String(connections),
      String(bytes),
      Math.round(median(perSecond)).toLocaleString('en'),
      `±${Math.round(spread(perSecond) * 100)} %`,
      (of(({ p50Us }) => p50Us) / 1000).toFixed(2),
      (of(({ p99Us }) => p99Us) / 1000).toFixed(2),
      (of(({ p999Us }) => p999Us) / 1000).toFixed(2),
      of(({ cpuUs }) => cpuUs).toFixed(0),
      shareOf(of(({ generatorCpu }) => generatorCpu)),
    ];
  });
  return [head, ...rows];
}

/** Formats the share of a core that the load generator used; '' if unknown, because wrk does not report it. */
function shareOf(generatorCpu: number): string {
  return Number.isNaN(generatorCpu) ? '' : `${Math.round(generatorCpu * 100)} %`;
}

export function rowTable(rows: readonly Row[]): string[][] {
  const head = ['work', 'goal', 'ratio', '', 'in each round', 'ours', 'theirs'];
  return [
    head,
    ...rows.map((row) => [
      row.note === undefined ? row.work : `${row.work} (${row.note})`,
      `${row.isAtMost === true ? 'at most' : 'at least'} ${row.bound}`,
      ratioOf(row).toFixed(row.bound > 0.99 && row.bound < 1 ? 5 : 2),
      isReached(row) ? 'reached' : 'NOT REACHED',
      inEachRound(row),
      `${Math.round(median(row.ours)).toLocaleString('en')}${row.unit} ±${Math.round(spread(row.ours) * 100)} %`,
      `${Math.round(median(row.theirs)).toLocaleString('en')}${row.unit} ±${Math.round(spread(row.theirs) * 100)} %`,
    ]),
  ];
}

/**
 * Formats the ratios of the rounds: median, minimum and maximum. A machine whose speed changes from round to round
 * affects these ratios less than the ratio of the medians.
 */
function inEachRound({ ours, theirs, ratio }: Row): string {
  if (ratio !== undefined) return '';
  const quotients = ours.map((one, i) => one / (theirs[i] ?? Number.NaN));
  const [least, most] = [Math.min(...quotients), Math.max(...quotients)];
  return `${median(quotients).toFixed(2)} (${least.toFixed(2)} to ${most.toFixed(2)})`;
}

export function idleLines({ rssMiB, cpuShare, connections, rssMoreMiB }: Idle): string[] {
  return [
    `Idle, the mesh in one process: ${rssMiB.toFixed(0)} MiB resident (goal: under 120 MB = 114 MiB), ${(cpuShare * 100).toFixed(2)} % of a core (goal: under 1 %)`,
    `${connections.toLocaleString('en')} idle client connections add ${rssMoreMiB.toFixed(0)} MiB (goal: under 150 MB = 143 MiB)`,
  ];
}

/** Returns the lines of a table with aligned columns; numbers are right-aligned. */
export function aligned(table: readonly (readonly string[])[]): string[] {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => (row[column] ?? '').length)));
  return table.map((row) =>
    row
      .map((cell, column) =>
        /^[±\d]/.test(cell) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
}

/** Writes NAME.json, NAME.md and NAME.svg. @returns the folder */
export function writeResults(name: string, result: Run): string {
  const folder = path.join(REPOSITORY, 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  const { machine, rounds, seconds, grid, rows, idle } = result;
  writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify(result, null, 1)}\n`);
  writeFileSync(path.join(folder, `${name}.svg`), chart(grid));
  const lines = [
    `# Results: ${name}`,
    '',
    `Written by \`npm run bench\`. Medians of ${rounds} alternating rounds of ${seconds} s each; the spread is half of the range.`,
    '',
    ...Object.entries(machine).map(([key, value]) => `- ${key}: ${value}`),
    '',
    ...markdown(rowTable(rows)),
    '',
    `![Throughput of each contender](${name}.svg)`,
    '',
    ...markdown(gridTable(grid)),
    '',
    ...(idle === undefined ? [] : [...idleLines(idle), '']),
  ];
  writeFileSync(path.join(folder, `${name}.md`), lines.join('\n'));
  return folder;
}

function markdown([head = [], ...rows]: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)];
}

/** Returns an SVG bar chart of the throughput at 64 connections and 16 bytes. */
function chart(grid: readonly GridCell[]): string {
  const cells = grid.filter(({ connections, bytes }) => connections === 64 && bytes === 16);
  const values = cells.map(({ rounds }) => median(rounds.map(({ perSecond }) => perSecond)));
  const most = Math.max(1, ...values);
  const [left, bar, step] = [290, 420, 28];
  const height = cells.length * step + 40;
  const bars = cells.map(({ contender }, i) => {
    const value = values[i] ?? 0;
    const y = 30 + i * step;
    const width = (value / most) * bar;
    const fill = contender.startsWith('Katamari') ? '#c2410c' : '#94a3b8';
    return `<text x="${left - 10}" y="${y + 15}" text-anchor="end">${contender}</text><rect x="${left}" y="${y}" width="${width.toFixed(1)}" height="20" fill="${fill}"/><text x="${(left + width + 8).toFixed(1)}" y="${y + 15}">${Math.round(value).toLocaleString('en')}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${left + bar + 90}" height="${height}" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/><text x="${left}" y="18" font-weight="bold">calls per second, 64 connections, 16 bytes</text>${bars.join('')}</svg>\n`;
}

function packageVersion(folder: string): string {
  try {
    return (JSON.parse(readFileSync(path.join(REPOSITORY, folder, 'package.json'), 'utf8')) as { version: string })
      .version;
  } catch {
    return 'not installed';
  }
}

function versionOf(runtime: string): string {
  if (runtime === 'node') return process.versions.node;
  return firstLine(path.join(REPOSITORY, 'node_modules', '.bin', runtime), '--version').replace(/^deno /, '');
}

function firstLine(program: string, flag: string): string {
  try {
    const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };
    return execFileSync(program, [flag], { env }).toString().split('\n')[0] ?? '';
  } catch {
    return 'not installed';
  }
}
