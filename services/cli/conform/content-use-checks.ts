// Checks of the calls that use shards, and of what waits for what. They need handlers and shards of known behavior, so
// they run only for a chassis that implements idl/content_conformance.thrift, which needs no --content.

import { encodeStruct, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { readApplicationException, type Interface, type Method } from '../../../core/thrift/mod.ts';
import { CheckFailed } from './check-result.ts';
import {
  callTogether,
  checkClosed,
  checkOpen,
  checkSameFacts,
  closeCall,
  closeShard,
  factsOf,
  namesOf,
  openCall,
  openShard,
  openShards,
  refusalOf,
  shardCheck,
  shardsCall,
  type ArrivedReply,
} from './content-calls.ts';
import { WHY_DAMAGED, WHY_REFUSED, type MadeShards } from './content-shards.ts';
import { decodeResult, PING, type CheckGroup, type TestContext } from './test-context.ts';
import { describeTestReply, type SentCall, type TestReply } from './test-link.ts';
import { shown } from './values.ts';

/** Whether the chassis implements ContentConformance, whose shards and handlers have known behavior. */
export function isContentConformance(test: TestContext): boolean {
  return test.interface?.id === contentConformance().id;
}

export function contentUseChecks(shards: MadeShards): CheckGroup {
  const { good, slow } = shards;
  return {
    title: 'Shards in use',
    checks: [
      shardCheck(
        'shards-all',
        'a call that names no shards uses all that are open, one that names shards uses these',
        'take an absent list, or an empty one, as all open shards: a caller leaves `shards` out, and some languages send an empty list then',
        async (test) => {
          await openShard(test, A, good);
          await openShard(test, B, good);
          await checkHeld(test, undefined, [A, B]);
          await checkHeld(test, [], [A, B]);
          await checkHeld(test, [B], [B]);
          await checkHeld(test, [A, B], [A, B]);
        },
      ),
      shardCheck(
        'shards-unknown',
        'a call of a shard that is not open fails with no_pool and names those that are open',
        'fail the call with a TApplicationException of type 1 and, in its ReplyContext, error code NO_POOL (1), not with a result of the other shards: the mesh then asks another copy',
        async (test) => {
          await openShard(test, A, good);
          await checkNoPool(test, await test.call(holdCall([A, B])));
          await openShard(test, B, good);
          await checkHeld(test, [A, B], [A, B]);
          await closeShard(test, B);
          await checkNoPool(test, await test.call(holdCall([B])));
          await checkHeld(test, undefined, [A]);
        },
      ),
      shardCheck(
        'shards-refused',
        'the message of an error in open is the reason of the refusal, and only damaged files are damaged',
        'put the message of the error into ShardRefused.why; set isDamaged only for the error that says so',
        async (test) => {
          for (const [path, why, isDamaged] of [
            [shards.damaged, WHY_DAMAGED, true],
            [shards.refused, WHY_REFUSED, false],
          ] as const) {
            const refusal = await refusalOf(test, A, path, path);
            if (!refusal.why.includes(why) || refusal.isDamaged !== isDamaged)
              throw new CheckFailed(`why "${why}", isDamaged ${isDamaged}`, shown(refusal));
          }
        },
      ),
      shardCheck(
        'close-waits',
        'close waits for the calls that use the shard, and lets no new one in',
        'count the calls that use a shard; close stops new ones, waits for the others, closes the files, then answers',
        async (test) => {
          await openShard(test, A, good);
          const held = await startHolding(test, 1, [A]);
          let isClosed = false;
          const closing = test.call(closeCall(A)).finally(() => (isClosed = true));
          closing.catch(() => undefined);
          await test.chassis.waitForExit(READ_MS);
          const reopening = test.call(openCall(A, good)).finally(() => {
            if (!isClosed)
              throw new CheckFailed('that open of a shard that is being closed waits', 'its reply came before');
          });
          reopening.catch(() => undefined);
          const listed = await openShards(test);
          if (isClosed) {
            await held.checkEndedBefore('close');
            throw new CheckFailed('a reply to shards while close waits', 'it waited for close');
          }
          if (listed.length > 0) throw new CheckFailed('no open shard while close waits', shown(listed));
          checkClosed(await closing);
          factsOf(await reopening, good);
          await held.checkEndedBefore('close');
          await checkOpen(test, [A], 'after close and open');
        },
      ),
      shardCheck(
        'control-busy',
        'opens and closes shards while calls occupy its whole concurrency',
        'answer katamari.Content and katamari.Chassis in other threads than those of the handlers, also when they all are busy',
        async (test) => {
          await openShard(test, A, good);
          const held = await startHolding(test, test.requireDetails().concurrency, [A]);
          factsOf(await test.call(openCall(B, good)), good);
          await test.call(PING);
          await closeShard(test, B);
          await checkOpen(test, [A], 'while calls use it');
          await held.checkStillRuns('open, ping and close of other shards');
        },
      ),
      shardCheck(
        'open-slow',
        'serves pings and calls while it opens a shard',
        'open shards in another thread than the one that reads calls, or in asynchronous steps: the mesh ends a chassis that answers no ping',
        async (test) => {
          await openShard(test, A, good);
          let isOpened = false;
          const opened = test.call(openCall(B, slow)).finally(() => (isOpened = true));
          opened.catch(() => undefined);
          // The chassis reads the other calls while it opens the shard.
          await test.chassis.waitForExit(READ_MS);
          const waitedFor = async (sent: SentCall): Promise<readonly [TestReply, boolean]> => [
            await test.call(sent),
            isOpened,
          ];
          const [[, isLatePing], [held, isLateCall], [other, isLateOpen]] = await Promise.all([
            waitedFor(PING),
            waitedFor(holdCall([A])),
            waitedFor(openCall(C, good)),
          ]);
          factsOf(await opened, slow);
          factsOf(other, good);
          checkNames(held, [A]);
          if (isLatePing) throw new CheckFailed('a reply to a ping while it opens a shard', 'the ping waited for open');
          const waited = [...(isLateCall ? ['calls'] : []), ...(isLateOpen ? ['opens of other shards'] : [])];
          return waited.length === 0 ? '' : `${waited.join(' and ')} wait while it opens a shard`;
        },
      ),
      shardCheck(
        'open-slow-together',
        'an open, and a close, that arrive while a shard is being opened wait for it',
        'keep the state "opening" by name: a second open waits and returns the facts of the first, a close waits and then closes',
        async (test) => {
          const [first, second, listed] = await callTogether(test, [
            openCall(A, slow),
            openCall(A, slow),
            shardsCall(),
          ]);
          checkSameFacts(factsOf(first.reply, slow), factsOf(second.reply, slow), 'of two opens at once');
          if (listed.place < first.place && namesOf(listed.reply).length > 0)
            throw new CheckFailed('no open shard while it is being opened', shown(namesOf(listed.reply)));
          const [opened, closed] = await callTogether(test, [openCall(B, slow), closeCall(B)]);
          factsOf(opened.reply, slow);
          checkClosed(closed.reply);
          if (closed.place < opened.place)
            throw new CheckFailed('the reply to close after that to open', 'it came before');
          await checkOpen(test, [A], 'after open and close together');
        },
      ),
    ],
  };
}

async function checkHeld(test: TestContext, names: readonly string[] | undefined, expected: readonly string[]) {
  checkNames(await test.call(holdCall(names)), expected);
}

function checkNames(reply: TestReply, expected: readonly string[]): void {
  if (reply.isException) throw new CheckFailed(`shards ${shown(expected)} from hold`, describeTestReply(reply));
  const { success } = decodeResult(hold(), reply);
  if (shown(success) !== shown(expected))
    throw new CheckFailed(`shards ${shown(expected)} from hold`, `shards ${shown(success)}`);
}

async function checkNoPool(test: TestContext, reply: TestReply): Promise<void> {
  const expected = 'an exception with error code 1 (NO_POOL) in its ReplyContext';
  if (!reply.isException || reply.context?.error?.code !== NO_POOL)
    throw new CheckFailed(expected, reply.isException ? `${describeTestReply(reply)} without it` : 'a result');
  const { message } = readApplicationException(reply.body);
  for (const name of [B, ...(await openShards(test))]) {
    if (!message.includes(name))
      throw new CheckFailed(`a message that names ${B}, which is not open, and those that are`, shown(message));
  }
}

/** Starts calls that use shards for HOLD_MS, and waits until they run. */
async function startHolding(test: TestContext, count: number, names: readonly string[]) {
  const calls = Array.from({ length: Math.min(count, HOLDS_MAX) }, () => holdCall(names, HOLD_MS));
  let isOver = false;
  const held = callTogether(test, calls).finally(() => (isOver = true));
  held.catch(() => undefined);
  // Nothing shows that a handler has begun.
  await test.chassis.waitForExit(READ_MS);
  const checkAll = async (): Promise<void> => {
    for (const { reply } of (await held) as readonly ArrivedReply[]) checkNames(reply, names);
  };
  return {
    async checkEndedBefore(what: string): Promise<void> {
      if (!isOver)
        throw new CheckFailed(`the reply to ${what} after those of the calls that use the shard`, 'it came before');
      await checkAll();
    },
    async checkStillRuns(what: string): Promise<void> {
      if (isOver) throw new CheckFailed(`replies to ${what} while calls run`, 'they waited for the calls');
      await checkAll();
    },
  };
}

function holdCall(names: readonly string[] | undefined, ms = 0): SentCall {
  return { name: 'hold', args: encodeStruct(hold().args, { ms, ...(names === undefined ? {} : { shards: names }) }) };
}

function hold(): Method {
  const method = contentConformance().methods.get('hold');
  if (method === undefined) throw new Error('idl/content_conformance.thrift has no method hold');
  return method;
}

function contentConformance(): Interface {
  conformance ??= parseIdl(
    readIdlFile(new URL('../../../idl/content_conformance.thrift', import.meta.url)),
  ).services.get('ContentConformance');
  if (conformance === undefined) throw new Error('idl/content_conformance.thrift has no service ContentConformance');
  return conformance;
}

/** Read once. */
let conformance: Interface | undefined;
const A = 'conform@1.0.0/a';
const B = 'conform@1.0.0/b';
const C = 'conform@1.0.0/c';
const NO_POOL = 1;
/** Long enough for a few calls of the control service, also on a busy machine. */
const HOLD_MS = 1_500;
const READ_MS = 300;
const HOLDS_MAX = 16;
