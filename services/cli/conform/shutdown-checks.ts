// Checks of every way in which a chassis ends: drain, SIGTERM, the end of its manager, and its own wish to be replaced. Each takes a process of
// its own. Nothing that was under way may be lost, and nothing may be left behind.

import { describeDuration } from '../../config/mod.ts';
import { CheckFailed, CheckSkipped } from './check-result.ts';
import { PING, type Check, type CheckGroup, type TestContext } from './test-context.ts';
import { describeAnswer, PeerClosed, type TestAnswer } from './test-link.ts';

/** What tells the chassis to end. */
type Cause = 'drain' | 'SIGTERM';

export const ENDS: CheckGroup = {
  title: 'How it ends',
  checks: [
    ...(['drain', 'SIGTERM'] as const).flatMap((cause): Check[] => [
      {
        id: cause.toLowerCase(),
        what: `${cause} ends it, with status 0`,
        advice:
          cause === 'drain'
            ? 'on katamari.Chassis:drain stop taking calls, finish what is under way, flush, exit with status 0'
            : 'handle SIGTERM: stop taking calls, finish what is under way, flush, exit with status 0',
        async run(exam) {
          await started(exam);
          const told = await tell(exam, cause);
          await endsWell(exam, cause);
          await told.taken;
        },
      },
      {
        id: `${cause.toLowerCase()}-busy`,
        what: `${cause} lets the call under way finish first`,
        advice:
          'on the way out wait for handlers that run, write their answers, and only then close the connection and exit with status 0',
        async run(exam) {
          await started(exam);
          exam.needsConformance();
          const peer = await exam.subject.peer();
          const answered = peer.call({ context: exam.context(), ...exam.told('work', { ms: WORK_MS }) });
          answered.catch(() => undefined);
          await isUnderWay(exam);
          const told = await tell(exam, cause);
          try {
            exam.returned('work', await exam.subject.told(answered));
          } catch (error) {
            const came = error instanceof CheckFailed ? error.came : (error as Error).message;
            throw new CheckFailed(`the answer of the call that was under way at ${cause}`, came);
          }
          await endsWell(exam, cause);
          await told.taken;
        },
      },
    ]),
    {
      id: 'lifeline',
      what: 'the end of standard input ends it',
      advice:
        'with KATAMARI_LIFELINE=stdin read standard input and exit when it ends: its manager is gone, and nobody else will end it',
      async run(exam) {
        await started(exam);
        exam.subject.endInput();
        const ending = await exam.subject.ended(exam.timeoutMs);
        if (ending === undefined)
          throw new CheckFailed(
            `its end within ${describeDuration(exam.timeoutMs)} of that of its standard input`,
            'it goes on, an orphan',
          );
        await leavesNothing(exam);
      },
    },
    {
      id: 'retire',
      what: 'a handler can ask that it be replaced',
      advice: 'put a ReplyContext with retire = true first in the answer, send it, then exit with status 0',
      async run(exam) {
        await started(exam);
        exam.needsConformance();
        const answer = await exam.ask(exam.told('retire'));
        if (answer.isException) throw new CheckSkipped(`it does not offer this: ${describeAnswer(answer)}`);
        if (answer.context?.retire !== true)
          throw new CheckFailed(
            'a ReplyContext with retire = true in the answer',
            answer.contextFault || 'none that says so',
          );
        await endsWell(exam, 'a call that retired it');
      },
    },
  ],
};

/** The same chassis at a TCP port: the mesh launches it so where its deployment says. */
export const TCP: CheckGroup = {
  title: 'Over TCP',
  checks: [
    {
      id: 'tcp',
      what: 'listens at a TCP port, too',
      advice: 'KATAMARI_LISTEN may also say tcp:HOST:PORT: listen there then',
      async run(exam) {
        await exam.subject.start();
        await exam.ask(PING);
      },
    },
    {
      id: 'tcp-drain',
      what: 'ends as it does at a Unix socket',
      advice: 'make no difference between the two',
      async run(exam) {
        await started(exam);
        const told = await tell(exam, 'drain');
        await endsWell(exam, 'drain');
        await told.taken;
      },
    },
  ],
};

/** A process that nothing was asked of yet but this. */
async function started(exam: TestContext): Promise<void> {
  await exam.subject.start();
  await exam.ask(PING);
}

/** Until the call before has been read. One that works on one call at a time answers no ping meanwhile. */
async function isUnderWay(exam: TestContext): Promise<void> {
  await exam.subject.ended(READ_MS);
}

/** @returns a promise for later: drain may be answered, or cut short by the end that it asks for; an exception rejects it */
async function tell(exam: TestContext, cause: Cause): Promise<{ readonly taken: Promise<void> }> {
  if (cause === 'SIGTERM') {
    exam.subject.terminate();
    return { taken: Promise.resolve() };
  }
  const peer = await exam.subject.peer();
  const answered = peer.call({ name: 'katamari.Chassis:drain', context: exam.context() });
  const taken = answered.then(
    (answer: TestAnswer) => {
      if (answer.isException) throw new CheckFailed('katamari.Chassis:drain is taken', describeAnswer(answer));
    },
    (error: unknown) => {
      if (!(error instanceof PeerClosed) || !error.isClosed) throw error;
    },
  );
  // Looked at when the process has ended.
  taken.catch(() => undefined);
  return { taken };
}

/** Ends with status 0, in time, and leaves no process behind. @throws Fault */
async function endsWell(exam: TestContext, cause: string): Promise<void> {
  const ending = await exam.subject.ended(exam.timeoutMs);
  if (ending === undefined)
    throw new CheckFailed(`its end within ${describeDuration(exam.timeoutMs)} of ${cause}`, 'it goes on');
  if (ending.status !== 0)
    throw new CheckFailed(`status 0 after ${cause}`, `it ${ending.text}${exam.subject.lastWords()}`);
  await leavesNothing(exam);
}

async function leavesNothing(exam: TestContext): Promise<void> {
  const endMs = performance.now() + LEFTOVERS_MS;
  while (exam.subject.hasLeftovers()) {
    if (performance.now() > endMs)
      throw new CheckFailed(
        'that nothing it started is left',
        'processes of its group live on',
        'end what the chassis started; when COMMAND is a shell that wraps it, use exec',
      );
    await exam.subject.ended(LOOK_EVERY_MS);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

const WORK_MS = 400;
const READ_MS = 150;
const LEFTOVERS_MS = 1_000;
const LOOK_EVERY_MS = 20;
