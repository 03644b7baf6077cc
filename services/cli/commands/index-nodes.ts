// `katamari index nodes`: the managers as holders of shards, and what is wrong with them.

import { describeSize } from '../../../core/mod.ts';
import { EXIT, type ExitCode } from '../../config/mod.ts';
import { connect, type CliContext } from '../kit/context.ts';
import { IndexClient, type IndexNodeStateName, type IndexNodeSummary } from '../kit/index-client.ts';
import { formatTable, printable, type Color, type Column } from '../kit/terminal.ts';
import type { IndexStatusOptions } from './index-status.ts';

export async function runIndexNodes(context: CliContext, options: IndexStatusOptions): Promise<ExitCode> {
  const { terminal } = context;
  const nodes = await new IndexClient(connect(context, options)).nodes();
  if (options.json === true) {
    terminal.write(`${JSON.stringify(nodes)}\n`);
    return EXIT.done;
  }
  if (nodes.length === 0) {
    terminal.writeError('No manager is known, so nothing can hold shards; katamari manager starts one\n');
    return EXIT.done;
  }
  const problems = nodes.flatMap((node) => node.problems.map((text) => `! ${printable(`${node.manager} ${text}`)}`));
  const lines = [...formatTable(terminal, COLUMNS, nodes), ...(problems.length === 0 ? [] : ['', ...problems])];
  terminal.write(`${lines.join('\n')}\n`);
  return EXIT.done;
}

const STATE_COLORS: Readonly<Record<IndexNodeStateName, Color>> = {
  UP: 'green',
  NO_CONTENT_SERVICE: 'yellow',
  DRAINED: 'yellow',
  LEAVING: 'yellow',
  SILENT: 'red',
  AWAY: 'red',
};

const COLUMNS: readonly Column<IndexNodeSummary>[] = [
  { head: 'MANAGER', text: ({ manager }) => manager },
  { head: 'MACHINE', text: ({ machine }) => machine || '-', dropOrder: 3 },
  {
    head: 'STATE',
    text: ({ state }) => state.toLowerCase().replaceAll('_', ' '),
    color: ({ state }) => STATE_COLORS[state],
  },
  { head: 'SERVING', isNumber: true, text: ({ serving }) => String(serving) },
  { head: 'FETCHING', isNumber: true, text: ({ fetching }) => String(fetching) },
  {
    head: 'BACKING OFF',
    isNumber: true,
    text: ({ backingOff }) => String(backingOff),
    color: ({ backingOff }) => (backingOff > 0 ? 'red' : undefined),
  },
  { head: 'HELD', isNumber: true, text: ({ bytes }) => describeSize(bytes) },
  {
    head: 'FREE',
    isNumber: true,
    text: ({ freeBytes }) => (freeBytes === undefined ? '-' : describeSize(freeBytes)),
  },
  { head: 'INDICES', text: ({ indices }) => indices.join(' ') || '-', dropOrder: 2 },
];
