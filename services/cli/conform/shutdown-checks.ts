// Checks of graceful shutdown: drain, SIGTERM, the exit of the resource manager, and a handler that retires the
// process. Each check uses a new process. No call in progress may be lost, and no child process may remain.

import { describeDuration } from '../../../core/mod.ts';
import { CheckFailed, CheckSkipped } from './check-result.ts';
import { PING, type Check, type CheckGroup, type TestContext } from './test-context.ts';
import { describeTestReply, PeerClosed, type TestReply } from './test-link.ts';

/** The trigger of a shutdown. */
type Cause = 'drain' | 'SIGTERM';

export const SHUTDOWN: CheckGroup = {
  title: 'Shutdown',
  checks: [
    ...(['drain', 'SIGTERM'] as const).flatMap((cause): Check[] => [
      {
        id: cause.toLowerCase(),
        what: `exits with status 0 on ${cause}`,
        advice:
          cause === 'drain'
            ? 'on katamari.Chassis:drain stop accepting calls, finish calls in progress, flush, exit with status 0'
            : 'handle SIGTERM: stop accepting calls, finish calls in progress, flush, exit with status 0',
        async run(test) {
          await startFresh(test);
          const shutdown = await triggerShutdown(test, cause);
          await checkCleanExit(test, cause);
          await shutdown.taken;
        },
      },
      {
        id: `${cause.toLowerCase()}-busy`,
        what: `finishes the call in progress on ${cause}`,
        advice:
          'during shutdown wait for running handlers and write their replies, then close the connection and exit with status 0',
        async run(test) {
          await startFresh(test);
          test.requireConformance();
          const link = await test.chassis.link();
          const replied = link.call({ context: test.callContext(), ...test.conformanceCall('work', { ms: WORK_MS }) });
          replied.catch(() => undefined);
          await waitUntilBusy(test);
          const shutdown = await triggerShutdown(test, cause);
          try {
            test.returnValue('work', await test.chassis.withExitReason(replied));
          } catch (error) {
            const came = error instanceof CheckFailed ? error.came : (error as Error).message;
            throw new CheckFailed(`the reply to the call in progress at ${cause}`, came);
          }
          await checkCleanExit(test, cause);
          await shutdown.taken;
        },
      },
    ]),
    {
      id: 'lifeline',
      what: 'exits when its standard input closes',
      advice:
        'with KATAMARI_LIFELINE=stdin read standard input and exit at its end: the resource manager is gone, so no other process will stop it',
      async run(test) {
        await startFresh(test);
        test.chassis.endInput();
        const exit = await test.chassis.waitForExit(test.timeoutMs);
        if (exit === undefined)
          throw new CheckFailed(
            `its exit within ${describeDuration(test.timeoutMs)} of the end of standard input`,
            'it still runs, as an orphan',
          );
        await checkNoProcessRemains(test);
      },
    },
    {
      id: 'retire',
      what: 'a handler can retire the process',
      advice: 'write a ReplyContext with retire = true as first field of the reply, send it, then exit with status 0',
      async run(test) {
        await startFresh(test);
        test.requireConformance();
        const reply = await test.call(test.conformanceCall('retire'));
        if (reply.isException) throw new CheckSkipped(`the kit does not offer retire: ${describeTestReply(reply)}`);
        if (reply.context?.retire !== true)
          throw new CheckFailed(
            'a ReplyContext with retire = true in the reply',
            reply.contextError || 'none with retire = true',
          );
        await checkCleanExit(test, 'a call of retire');
      },
    },
  ],
};

/** The same chassis on a TCP port, which a deployment can choose. */
export const TCP: CheckGroup = {
  title: 'Over TCP',
  checks: [
    {
      id: 'tcp',
      what: 'listens on a TCP port',
      advice: 'KATAMARI_LISTEN may be tcp:HOST:PORT: listen on that port',
      async run(test) {
        await test.chassis.start();
        await test.call(PING);
      },
    },
    {
      id: 'tcp-drain',
      what: 'exits with status 0 on drain over TCP',
      advice: 'shut down in the same way as on a Unix socket',
      async run(test) {
        await startFresh(test);
        const shutdown = await triggerShutdown(test, 'drain');
        await checkCleanExit(test, 'drain');
        await shutdown.taken;
      },
    },
  ],
};

/** Starts a new process and waits for its reply to a ping. */
async function startFresh(test: TestContext): Promise<void> {
  await test.chassis.start();
  await test.call(PING);
}

/**
 * Waits until the chassis has read the call. A fixed time, because a chassis with concurrency 1 may not answer a
 * ping meanwhile.
 */
async function waitUntilBusy(test: TestContext): Promise<void> {
  await test.chassis.waitForExit(READ_MS);
}

/**
 * Triggers the shutdown. `taken` resolves when drain got a reply, or the process exited before it could reply; it
 * rejects on an exception.
 */
async function triggerShutdown(test: TestContext, cause: Cause): Promise<{ readonly taken: Promise<void> }> {
  if (cause === 'SIGTERM') {
    test.chassis.terminate();
    return { taken: Promise.resolve() };
  }
  const link = await test.chassis.link();
  const replied = link.call({ name: 'katamari.Chassis:drain', context: test.callContext() });
  const taken = replied.then(
    (reply: TestReply) => {
      if (reply.isException) throw new CheckFailed('a reply to katamari.Chassis:drain', describeTestReply(reply));
    },
    (error: unknown) => {
      if (!(error instanceof PeerClosed) || !error.isClosed) throw error;
    },
  );
  // Awaited after the process exits.
  taken.catch(() => undefined);
  return { taken };
}

/** Checks that the process exits with status 0 in time and leaves no child process. @throws CheckFailed */
async function checkCleanExit(test: TestContext, cause: string): Promise<void> {
  const exit = await test.chassis.waitForExit(test.timeoutMs);
  if (exit === undefined)
    throw new CheckFailed(`its exit within ${describeDuration(test.timeoutMs)} of ${cause}`, 'it still runs');
  if (exit.status !== 0)
    throw new CheckFailed(`status 0 after ${cause}`, `it ${exit.text}${test.chassis.lastOutput()}`);
  await checkNoProcessRemains(test);
}

async function checkNoProcessRemains(test: TestContext): Promise<void> {
  const endMs = performance.now() + REMAINING_MS;
  while (test.chassis.hasRemainingProcesses()) {
    if (performance.now() > endMs)
      throw new CheckFailed(
        'no process that it started',
        'processes of its group still run',
        'stop child processes before you exit; if COMMAND is a shell script, start the chassis with exec',
      );
    await test.chassis.waitForExit(POLL_MS);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

const WORK_MS = 400;
const READ_MS = 150;
const REMAINING_MS = 1_000;
const POLL_MS = 20;
