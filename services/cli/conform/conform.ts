// `katamari conform -- COMMAND`: tests that a chassis in any language implements the protocol of the mesh. It needs
// no mesh: it starts COMMAND several times, one process after the other, as a resource manager does. A failed check
// reports the expected and the actual behavior and how to fix it. The next check gets a new process, so one fault
// fails one check. When the command ends, it kills all processes that the chassis started.
import { parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { findSocketBase, parseDuration } from '../../../core/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { ExitError, EXIT, type ExitCode } from '../../config/mod.ts';
import type { CliContext } from '../kit/context.ts';
import { APACHE } from './apache-checks.ts';
import { ChassisUnderTest } from './chassis-under-test.ts';
import { contentChecks } from './content-checks.ts';
import { makeShards, type MadeShards, namedShards } from './content-shards.ts';
import { contentUseChecks, isContentConformance } from './content-use-checks.ts';
import { CONFORMANCE_IDL, DETAILS, START } from './details.ts';
import { HANDLER_CHECKS } from './handlers.ts';
import { LIMITS } from './limits.ts';
import { CONTEXT, MESSAGES } from './messages.ts';
import { callablesOf, leftAlone, methodChecks, readCalls, type MethodSelection } from './methods.ts';
import { REFUSALS } from './refusals.ts';
import { ConformReport, summaryOf } from './report.ts';
import { TestRun } from './run.ts';
import { SHUTDOWN, TCP } from './shutdown-checks.ts';
import { openStubMesh, type StubMesh } from './stub-mesh.ts';
import { TestContext, type CheckGroup } from './test-context.ts';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';

export interface ConformOptions {
  readonly tcp?: boolean;
  readonly json?: boolean;
  readonly timeout?: string;
  readonly startTimeout?: string;
  readonly skip?: readonly string[];
  readonly call?: readonly string[];
  readonly only?: readonly string[];
  readonly content?: string;
  readonly damaged?: string;
}

export async function runConform(
  context: CliContext,
  command: readonly string[],
  options: ConformOptions,
): Promise<ExitCode> {
  const timeoutMs = readTimeout('--timeout', options.timeout ?? '10s');
  const startMs = readTimeout('--start-timeout', options.startTimeout ?? '30s');
  const selection = { skip: options.skip ?? [], call: readCalls(options.call ?? []) };
  checkPaths(context, options);
  const folder = mkdtempSync(path.join(findSocketBase().directory, 'katamari-c-'));
  const conformance = conformanceService();
  const stubMesh = await openStubMesh(folder, conformance);
  const { cwd, env } = context;
  const chassisList = (['unix', 'tcp'] as const).map(
    (transport) =>
      new ChassisUnderTest({ command, cwd, env, folder, mesh: stubMesh.address, transport, startMs, timeoutMs }),
  );
  const close = (): Promise<void> => closeAll(chassisList, stubMesh, folder);
  context.onStopSignal((signal) => void close().finally(() => context.exitNow(signal === 'SIGINT' ? 130 : 143)));
  // If the reader of the output closes the pipe, this process exits without running `finally`.
  const onExit = (): void => {
    for (const chassis of chassisList) chassis.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', onExit);
  try {
    const [test, overTcp] = chassisList.map(
      (chassis) => new TestContext({ chassis, stubMesh, timeoutMs, conformance }),
    ) as [TestContext, TestContext];
    const report = options.json === true ? undefined : new ConformReport(context.terminal);
    const run = new TestRun(report, options.only ?? []);
    await runChecks(run, test, selection, contentGroups(context, options, folder));
    if (options.tcp === true) await run.runGroup(TCP, overTcp);
    run.reportSkipped();
    const summary = summaryOf(run.results, test.described, test.interface === undefined ? [] : leftAlone(test));
    if (report === undefined) context.terminal.write(`${JSON.stringify(summary, null, 2)}\n`);
    else report.summary(summary);
    return summary.isConformant ? EXIT.done : EXIT.failed;
  } finally {
    await close();
    process.off('exit', onExit);
  }
}

async function runChecks(
  run: TestRun,
  test: TestContext,
  selection: MethodSelection,
  contentGroups: (test: TestContext) => readonly CheckGroup[],
): Promise<void> {
  await run.runGroup(START, test);
  const isConformance = test.described?.serviceName === test.conformance.service;
  await run.runGroup({ ...DETAILS, checks: [...DETAILS.checks, ...(isConformance ? [CONFORMANCE_IDL] : [])] }, test);
  if (test.interface !== undefined) test.callables = callablesOf(test.interface, selection);
  const own: CheckGroup = { title: 'Service methods', checks: methodChecks(test.callables) };
  const content = contentGroups(test);
  const rest = [MESSAGES, CONTEXT, REFUSALS, LIMITS, own, HANDLER_CHECKS, APACHE, ...content, SHUTDOWN];
  run.checkOnly([...rest, TCP].flatMap(({ checks }) => checks));
  if (test.interface !== undefined && !test.hasConformance) run.warn(describeSelection(test));
  if (test.described?.holdsShards === true && content.length === 0)
    run.warn('It is a content server; use --content SHARD to check how it opens and closes shards, too.');
  for (const group of rest) await run.runGroup(group, test);
}

/** Returns a function that makes the checks of content servers, if --content or the service asks for them. */
function contentGroups(
  { cwd }: CliContext,
  { content, damaged }: ConformOptions,
  folder: string,
): (test: TestContext) => readonly CheckGroup[] {
  return (test) => {
    const made: MadeShards | undefined = isContentConformance(test) ? makeShards(folder) : undefined;
    const shards =
      content === undefined
        ? made
        : namedShards(folder, path.resolve(cwd, content), damaged && path.resolve(cwd, damaged));
    return [
      ...(shards === undefined ? [] : [contentChecks(shards)]),
      ...(made === undefined ? [] : [contentUseChecks(made)]),
    ];
  };
}

/** @throws ExitError usage if a shard that is named is not there */
function checkPaths({ cwd }: CliContext, { content, damaged }: ConformOptions): void {
  if (damaged !== undefined && content === undefined)
    throw new ExitError(EXIT.usage, '--damaged needs --content: name a shard that the chassis can open, too');
  for (const [option, named] of Object.entries({ '--content': content, '--damaged': damaged })) {
    if (named === undefined || existsSync(path.resolve(cwd, named))) continue;
    throw new ExitError(EXIT.usage, `${option}: ${path.resolve(cwd, named)} does not exist, expected a file or folder`);
  }
}

function describeSelection(test: TestContext): string {
  const called = test.callables.map(({ method }) => method.name);
  const left = leftAlone(test);
  const parts = [
    called.length > 0
      ? `Called: ${called.join(', ')}, with arguments generated from the IDL or given by --call; use --skip METHOD to leave one out.`
      : 'Called: none, because the IDL marks no method as read-only or idempotent.',
    left.length > 0 ? `Not called: ${left.join(', ')}; use --call Service.method '{"argument": ...}' to call one.` : '',
  ];
  return parts.filter((part) => part !== '').join(' ');
}

async function closeAll(chassisList: readonly ChassisUnderTest[], stubMesh: StubMesh, folder: string): Promise<void> {
  for (const chassis of chassisList) await chassis.stop();
  await stubMesh.close();
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
