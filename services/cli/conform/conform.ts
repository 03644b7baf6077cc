// `katamari conform -- COMMAND`: puts a chassis, in whatever language, through everything that the mesh will ask of it. Launches COMMAND as a resource
// manager does, several times, one after the other; needs no mesh. A check that fails says what was expected, what came and what to do, and the
// next one gets a new process, so that one fault is told once. Nothing of the chassis outlives the command.
import { parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { ExitError, EXIT, type ExitCode, parseDuration } from '../../config/mod.ts';
import type { CliContext } from '../kit/context.ts';
import { APACHE } from './apache-checks.ts';
import { ChassisUnderTest } from './chassis-under-test.ts';
import { CONFORMANCE_IDL, DETAILS, START } from './details.ts';
import { HANDLER_CHECKS } from './handlers.ts';
import { CONTEXT, MESSAGES } from './messages.ts';
import { callablesOf, leftAlone, methodChecks, readCalls, type MethodSelection } from './methods.ts';
import { REFUSALS } from './refusals.ts';
import { ConformReport, summaryOf } from './report.ts';
import { TestRun } from './run.ts';
import { ENDS, TCP } from './shutdown-checks.ts';
import { openStubMesh, type StubMesh } from './stub-mesh.ts';
import { TestContext, type CheckGroup } from './test-context.ts';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface ConformOptions {
  readonly tcp?: boolean;
  readonly json?: boolean;
  readonly timeout?: string;
  readonly startTimeout?: string;
  readonly skip?: readonly string[];
  readonly call?: readonly string[];
  readonly only?: readonly string[];
}

export async function runConform(
  surroundings: CliContext,
  command: readonly string[],
  options: ConformOptions,
): Promise<ExitCode> {
  const timeoutMs = readTimeout('--timeout', options.timeout ?? '10s');
  const startMs = readTimeout('--start-timeout', options.startTimeout ?? '30s');
  const wishes = { skip: options.skip ?? [], call: readCalls(options.call ?? []) };
  const folder = mkdtempSync(path.join(tmpdir(), 'katamari-conform-'));
  const conformance = conformanceService();
  const door = await openStubMesh(folder, conformance);
  const { cwd, env } = surroundings;
  const subjects = (['unix', 'tcp'] as const).map(
    (transport) =>
      new ChassisUnderTest({ command, cwd, env, folder, mesh: door.address, transport, startMs, timeoutMs }),
  );
  const close = (): Promise<void> => closeAll(subjects, door, folder);
  surroundings.onStopSignal(
    (signal) => void close().finally(() => surroundings.exitNow(signal === 'SIGINT' ? 130 : 143)),
  );
  // Whoever reads our output may stop to, and then this process ends where it stands.
  const onExit = (): void => {
    for (const subject of subjects) subject.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', onExit);
  try {
    const [exam, overTcp] = subjects.map((subject) => new TestContext({ subject, door, timeoutMs, conformance })) as [
      TestContext,
      TestContext,
    ];
    const report = options.json === true ? undefined : new ConformReport(surroundings.terminal);
    const sitting = new TestRun(report, options.only ?? []);
    await examine(sitting, exam, wishes);
    if (options.tcp === true) await sitting.group(TCP, overTcp);
    sitting.close();
    const summary = summaryOf(sitting.results, exam.described, exam.interface === undefined ? [] : leftAlone(exam));
    if (report === undefined) surroundings.terminal.write(`${JSON.stringify(summary, null, 2)}\n`);
    else report.summary(summary);
    return summary.isConformant ? EXIT.done : EXIT.failed;
  } finally {
    await close();
    process.off('exit', onExit);
  }
}

async function examine(sitting: TestRun, exam: TestContext, wishes: MethodSelection): Promise<void> {
  await sitting.group(START, exam);
  const isConformance = exam.described?.serviceName === exam.conformance.service;
  await sitting.group({ ...DETAILS, checks: [...DETAILS.checks, ...(isConformance ? [CONFORMANCE_IDL] : [])] }, exam);
  if (exam.interface !== undefined) exam.callables = callablesOf(exam.interface, wishes);
  const own: CheckGroup = { title: 'Its own methods', checks: methodChecks(exam.callables) };
  const rest = [MESSAGES, CONTEXT, REFUSALS, own, HANDLER_CHECKS, APACHE, ENDS];
  sitting.checkOnly([...rest, TCP].flatMap(({ checks }) => checks));
  if (exam.interface !== undefined && !exam.hasConformance) sitting.warn(warningOn(exam));
  for (const group of rest) await sitting.group(group, exam);
}

function warningOn(exam: TestContext): string {
  const called = exam.callables.map(({ method }) => method.name);
  const left = leftAlone(exam);
  const parts = [
    called.length > 0
      ? `Called: ${called.join(', ')}, with arguments made from the IDL or given by --call; leave one out with --skip METHOD.`
      : 'None of its methods is said to be read-only or idempotent, so none is called.',
    left.length > 0
      ? `Not called: ${left.join(', ')}; name one that may be with --call Service.method '{"argument": ...}'.`
      : '',
  ];
  return parts.filter((part) => part !== '').join(' ');
}

async function closeAll(subjects: readonly ChassisUnderTest[], door: StubMesh, folder: string): Promise<void> {
  for (const subject of subjects) await subject.end();
  await door.close();
  rmSync(folder, { recursive: true, force: true });
}

function conformanceService(): Interface {
  const { services } = parseIdl(readIdlFile(new URL('../../../idl/conformance.thrift', import.meta.url)));
  const found = services.get('Conformance');
  if (found === undefined) throw new Error('idl/conformance.thrift has no service Conformance');
  return found;
}

function readTimeout(option: string, text: string): number {
  const parsed = parseDuration(text);
  if (parsed.ok && parsed.value > 0) return parsed.value;
  throw new ExitError(
    EXIT.usage,
    `${option}: found ${JSON.stringify(text)}, expected ${parsed.ok ? 'more than 0' : parsed.expected}`,
  );
}
