// Calls of `katamari.Content` as a manager makes them, for the checks of content servers. Every reply is validated: a
// shard is open with facts, or refused with words.

import { encodeStruct } from '../../../core/idl/mod.ts';
import { contentInterface } from '../../../core/rpc/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { CheckFailed, CheckSkipped } from './check-result.ts';
import { decodeResult, type Check, type TestContext } from './test-context.ts';
import { describeTestReply, PeerClosed, type SentCall, type TestReply } from './test-link.ts';
import { shown } from './values.ts';

/** Shards for the checks, absolute paths. */
export interface ContentShards {
  /** A shard that the chassis can open. */
  readonly good: string;
  /** The same files at another path. */
  readonly sameElsewhere: string;
  /** A shard with damaged files. */
  readonly damaged: string | undefined;
  /** Nothing is there. */
  readonly missing: string;
}

/** What `open` found. */
export interface FoundFacts {
  readonly entries: bigint;
  readonly more: ReadonlyMap<string, string>;
}

export interface FoundRefusal {
  readonly why: string;
  readonly isDamaged: boolean;
}

export type OpenOutcome = { readonly facts: FoundFacts } | { readonly refusal: FoundRefusal };

/** A reply and its place in the order of arrival. */
export interface ArrivedReply {
  readonly reply: TestReply;
  /** 0 for the first. */
  readonly place: number;
}

/** A check that begins and ends with no open shard. It is skipped unless the chassis says that it holds shards. */
export function shardCheck(id: string, what: string, advice: string, run: Check['run']): Check {
  return {
    id,
    what,
    advice,
    async run(test) {
      requireContent(test);
      await closeAll(test);
      const note = await run(test);
      await closeAll(test);
      return note;
    },
  };
}

async function closeAll(test: TestContext): Promise<void> {
  for (const name of await openShards(test)) await closeShard(test, name);
}

function requireContent(test: TestContext): void {
  if (test.requireDetails().holdsShards !== true)
    throw new CheckSkipped('it does not say that it holds shards: see content-told');
}

export function openCall(shard: string, path: string): SentCall {
  return contentCall('open', { shard, path });
}

export function closeCall(shard: string): SentCall {
  return contentCall('close', { shard });
}

export function shardsCall(): SentCall {
  return contentCall('shards', {});
}

/** Opens a shard. @param advice when it is refused. @throws CheckFailed unless it is open with facts */
export async function openShard(test: TestContext, shard: string, path: string, advice?: string): Promise<FoundFacts> {
  return factsOf(await test.call(openCall(shard, path)), path, advice);
}

/** Tries to open a shard. @throws CheckFailed if it is open, or refused without words */
export async function refusalOf(test: TestContext, shard: string, path: string, what: string): Promise<FoundRefusal> {
  const outcome = outcomeOf(await test.call(openCall(shard, path)));
  if ('facts' in outcome)
    throw new CheckFailed(`exception ShardRefused for ${what}`, `facts: ${describeFacts(outcome.facts)}`);
  if (outcome.refusal.why.trim() === '')
    throw new CheckFailed(`words in ShardRefused.why for ${what}`, 'an empty string', WORDS_ADVICE);
  return outcome.refusal;
}

/** Closes a shard. @throws CheckFailed on an exception */
export async function closeShard(test: TestContext, shard: string): Promise<void> {
  checkClosed(await test.call(closeCall(shard)));
}

/** @throws CheckFailed unless it is the empty result of close */
export function checkClosed(reply: TestReply): void {
  if (reply.isException || reply.body.length > 1)
    throw new CheckFailed('an empty result of close', describeTestReply(reply));
}

/** Returns the names of the open shards, in order. @throws CheckFailed */
export async function openShards(test: TestContext): Promise<readonly string[]> {
  return namesOf(await test.call(shardsCall()));
}

/** Returns what `shards` replied, in order. @throws CheckFailed */
export function namesOf(reply: TestReply): readonly string[] {
  if (reply.isException) throw new CheckFailed('a list of names from shards', describeTestReply(reply));
  const { success } = decodeResult(methodNamed('shards'), reply);
  if (!Array.isArray(success)) throw new CheckFailed('a list of names from shards', describeTestReply(reply));
  return (success as string[]).toSorted();
}

/** @throws CheckFailed unless exactly these shards are open */
export async function checkOpen(test: TestContext, expected: readonly string[], when: string): Promise<void> {
  const found = await openShards(test);
  if (found.join('\n') !== [...expected].sort().join('\n'))
    throw new CheckFailed(`${when}: shards ${shown(expected)}`, `shards ${shown(found)}`);
}

/** Returns the facts in a reply to open. @throws CheckFailed */
export function factsOf(reply: TestReply, path: string, advice?: string): FoundFacts {
  const outcome = outcomeOf(reply);
  if ('facts' in outcome) return outcome.facts;
  const came = `exception ShardRefused: ${outcome.refusal.why || 'no words'}`;
  throw new CheckFailed(`facts of the shard ${path}`, came, advice);
}

/** @throws CheckFailed unless the facts are equal */
export function checkSameFacts(first: FoundFacts, again: FoundFacts, when: string): void {
  if (describeFacts(first) !== describeFacts(again))
    throw new CheckFailed(`facts ${describeFacts(first)} ${when}`, `facts ${describeFacts(again)}`);
}

export function describeFacts({ entries, more }: FoundFacts): string {
  const sorted = [...more].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => `, ${name} ${value}`);
  return `${entries} entries${sorted.join('')}`;
}

/** Sends calls in one write. Returns the replies in order of the calls. @throws CheckFailed if one is missing */
export async function callTogether<const Calls extends readonly SentCall[]>(
  test: TestContext,
  calls: Calls,
): Promise<{ readonly [Place in keyof Calls]: ArrivedReply }> {
  const link = await test.chassis.link();
  const context = test.callContext();
  let arrived = 0;
  const replies = link
    .callAll(calls.map((call) => ({ context, ...call })))
    .map(async (replied): Promise<ArrivedReply> => ({ reply: await replied, place: arrived++ }));
  for (const replied of replies) replied.catch(() => undefined);
  try {
    const all = await test.chassis.withExitReason(Promise.all(replies));
    return all as { readonly [Place in keyof Calls]: ArrivedReply };
  } catch (error) {
    const names = [...new Set(calls.map(({ name }) => name))].join(', ');
    throw error instanceof PeerClosed
      ? new CheckFailed(`replies to ${calls.length} calls together (${names})`, error.message)
      : error;
  }
}

function outcomeOf(reply: TestReply): OpenOutcome {
  if (reply.isException)
    throw new CheckFailed('facts, or exception ShardRefused, in reply to open', describeTestReply(reply), OPEN_ADVICE);
  const { success, refused } = decodeResult(methodNamed('open'), reply) as {
    readonly success?: Partial<FoundFacts>;
    readonly refused?: Partial<FoundRefusal>;
  };
  if (refused !== undefined) return { refusal: { why: refused.why ?? '', isDamaged: refused.isDamaged ?? false } };
  if (success?.entries === undefined || success.more === undefined)
    throw new CheckFailed('facts with entries and more in field 0', describeTestReply(reply), FACTS_ADVICE);
  return { facts: { entries: success.entries, more: success.more } };
}

function contentCall(name: string, args: Readonly<Record<string, unknown>>): SentCall {
  return { name: `katamari.Content:${name}`, args: encodeStruct(methodNamed(name).args, args) };
}

function methodNamed(name: string): Method {
  const method = contentInterface().methods.get(name);
  if (method === undefined) throw new Error(`idl/content.thrift has no method ${name}`);
  return method;
}

const OPEN_ADVICE =
  'catch every error while a shard is opened, and answer with the declared exception ShardRefused (field 1 of the result), with its message as `why`';
const WORDS_ADVICE = 'put the message of the error into `why`: it is all that the operator sees of it';
const FACTS_ADVICE =
  'answer open with ShardFacts in field 0 of the result; write an empty map if there are no more facts';
