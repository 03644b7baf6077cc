// Checks of `katamari.Content`, the control service of a content server: what opens and closes shards. They need a
// shard that the chassis can open (--content), and for one check a damaged one (--damaged).

import { PING, type CheckGroup, type Check } from './test-context.ts';
import { CheckFailed, CheckSkipped } from './check-result.ts';
import {
  callTogether,
  checkClosed,
  checkOpen,
  checkSameFacts,
  closeCall,
  closeShard,
  describeFacts,
  factsOf,
  openCall,
  openShard,
  refusalOf,
  shardCheck,
  type ContentShards,
} from './content-calls.ts';
import { describeTestReply } from './test-link.ts';
import { shown } from './values.ts';

/** Returns the checks of a content server. */
export function contentChecks(shards: ContentShards): CheckGroup {
  /** Whether the shard of --content could not be opened, so that the other checks cannot say anything. */
  let isRefused = false;
  const checks: Check[] = [
    {
      id: 'content-told',
      what: 'describe says that it holds shards',
      advice: 'set holdsShards (field 11 of ChassisDetails) to true: without it the mesh gives it no shard',
      async run(test) {
        const { holdsShards } = test.requireDetails();
        if (holdsShards !== true) throw new CheckFailed('holdsShards true', `holdsShards ${shown(holdsShards)}`);
      },
    },
    shardCheck(
      'content-open',
      'opens a shard, lists it, and returns the same facts when asked again',
      'keep the facts of an open shard: open of an open shard returns them and opens nothing; shards lists its name',
      async (test) => {
        isRefused = true;
        const first = await openShard(test, NAME, shards.good, GOOD_ADVICE);
        isRefused = false;
        checkSameFacts(first, await openShard(test, NAME, shards.good), 'again');
        await checkOpen(test, [NAME], 'after open');
        return `${shards.good} has ${describeFacts(first)}`;
      },
    ),
    shardCheck(
      'content-other-path',
      'refuses a shard that is open from another path',
      'compare the path with that of the open shard; if they differ, throw ShardRefused with words: the files of a name never change',
      async (test) => {
        await openShard(test, NAME, shards.good);
        await refusalOf(test, NAME, shards.sameElsewhere, `a shard that is open from ${shards.good}`);
        await checkOpen(test, [NAME], 'after the refusal');
      },
    ),
    shardCheck(
      'content-damaged',
      'refuses a damaged shard with words and isDamaged',
      'when the files are not as they should be, throw ShardRefused with isDamaged = true, so that the mesh fetches them again; the kits have DamagedShard for it',
      async (test) => {
        if (shards.damaged === undefined) throw new CheckSkipped('use --damaged SHARD to name a damaged shard');
        const { why, isDamaged } = await refusalOf(test, NAME, shards.damaged, `the damaged shard ${shards.damaged}`);
        if (!isDamaged)
          throw new CheckFailed(`isDamaged true for ${shards.damaged}`, `isDamaged false, why ${shown(why)}`);
        await checkOpen(test, [], 'after the refusal');
        await openShard(test, NAME, shards.good);
        return why;
      },
    ),
    shardCheck(
      'content-missing',
      'refuses a path that does not exist with words',
      'throw ShardRefused with the message of the error, such as "No such file or directory: PATH", and keep nothing of the shard',
      async (test) => {
        const { why } = await refusalOf(test, NAME, shards.missing, 'a path that does not exist');
        await checkOpen(test, [], 'after the refusal');
        await openShard(test, NAME, shards.good);
        return why;
      },
    ),
    shardCheck(
      'content-close',
      'closes a shard, once, twice, and one that it does not know',
      'answer close of a shard that is not open with an empty result: a manager repeats it when it missed the first reply',
      async (test) => {
        await openShard(test, NAME, shards.good);
        await closeShard(test, NAME);
        await checkOpen(test, [], 'after close');
        await closeShard(test, NAME);
        await closeShard(test, `${NAME}-unknown`);
      },
    ),
    shardCheck(
      'content-reopen',
      'opens a shard again after it was closed',
      'remove all that is kept of a shard when it is closed',
      async (test) => {
        const first = await openShard(test, NAME, shards.good);
        await closeShard(test, NAME);
        checkSameFacts(first, await openShard(test, NAME, shards.good), 'after close and open');
        await checkOpen(test, [NAME], 'after it was opened again');
        await closeShard(test, NAME);
        await openShard(test, NAME, shards.sameElsewhere);
      },
    ),
    shardCheck(
      'content-names',
      'opens many names of the same path, and closes one of them alone',
      'keep the open shards by name, not by path, and open files for each name',
      async (test) => {
        const names = Array.from({ length: NAMES }, (_, i) => `${NAME}-${i}`);
        const facts = [];
        for (const name of names) facts.push(await openShard(test, name, shards.good));
        for (const each of facts) checkSameFacts(facts[0] ?? each, each, 'of the same path under another name');
        const [first = '', ...others] = names;
        await closeShard(test, first);
        await checkOpen(test, others, `after ${first} was closed`);
      },
    ),
    shardCheck(
      'content-together',
      'opens a shard once when it is asked several times at once',
      'an open that arrives while the same shard is being opened waits for the first one and returns its facts',
      async (test) => {
        const calls = Array.from({ length: TOGETHER }, () => openCall(NAME, shards.good));
        const all = (await callTogether(test, calls)).map(({ reply }) => factsOf(reply, shards.good));
        for (const each of all) checkSameFacts(all[0] ?? each, each, `from ${TOGETHER} calls at once`);
        await checkOpen(test, [NAME], `after ${TOGETHER} calls at once`);
        await closeShard(test, NAME);
        await checkOpen(test, [], 'after one close');
      },
    ),
    shardCheck(
      'content-order',
      'obeys opens and closes of a shard in the order in which they arrive',
      'an open waits while the shard is being closed, and a close waits while it is being opened',
      async (test) => {
        const [opened, closed] = await callTogether(test, [openCall(NAME, shards.good), closeCall(NAME)]);
        factsOf(opened.reply, shards.good);
        checkClosed(closed.reply);
        await checkOpen(test, [], 'after open and close together');
        await openShard(test, NAME, shards.good);
        const [again, reopened] = await callTogether(test, [closeCall(NAME), openCall(NAME, shards.good)]);
        checkClosed(again.reply);
        factsOf(reopened.reply, shards.good);
        await checkOpen(test, [NAME], 'after close and open together');
      },
    ),
    shardCheck(
      'content-ping',
      'answers pings while it opens shards',
      'answer katamari.Chassis:ping at once, in another thread than the one that opens shards: the mesh ends a chassis that does not answer',
      async (test) => {
        const names = Array.from({ length: TOGETHER }, (_, i) => `${NAME}-${i}`);
        const opens = names.map((name) => openCall(name, shards.good));
        const [opened, ping] = await Promise.all([callTogether(test, opens), test.call(PING)]);
        if (ping.isException) throw new CheckFailed('a reply to a ping', describeTestReply(ping));
        for (const { reply } of opened) factsOf(reply, shards.good);
        await checkOpen(test, names, `after ${TOGETHER} opens at once`);
      },
    ),
    shardCheck(
      'content-files',
      'has no file of a shard open after close',
      'close every file, mapping and thread of the shard before close is answered: the manager then deletes the files',
      async (test) => {
        const before = test.chassis.files();
        if (before === undefined) throw new CheckSkipped(NO_PROC);
        await openShard(test, NAME, shards.good);
        const during = below(shards.good, test.chassis.files());
        await closeShard(test, NAME);
        const [left] = below(shards.good, test.chassis.files());
        if (left !== undefined) throw new CheckFailed(`no open file below ${shards.good} after close`, left);
        return during.length === 0 ? 'it holds no file while the shard is open, so there is none to close' : '';
      },
    ),
    shardCheck(
      'content-leaks',
      'keeps its number of open files through many opens and closes',
      'close all that open opened, also what does not belong to the files of the shard: sockets, threads, temporary files',
      async (test) => {
        if (test.chassis.files() === undefined) throw new CheckSkipped(NO_PROC);
        const endMs = performance.now() + test.timeoutMs;
        let rounds = 0;
        let before = 0;
        while (rounds < ROUNDS && (rounds < ROUNDS_MIN || performance.now() < endMs)) {
          await openShard(test, NAME, shards.good);
          await closeShard(test, NAME);
          // A runtime opens files of its own at first.
          if (++rounds === ROUNDS_FIRST) before = (test.chassis.files() ?? []).length;
        }
        const after = (test.chassis.files() ?? []).length;
        if (after - before > FILES_MORE_MAX)
          throw new CheckFailed(
            `${before} open files after ${rounds} opens and closes, as after ${ROUNDS_FIRST}`,
            `${after} open files`,
          );
        return `${rounds} times: ${before} open files, then ${after}`;
      },
    ),
  ];
  const skipIfRefused = (check: Check): Check => ({
    ...check,
    run(test) {
      if (isRefused) throw new CheckSkipped('it does not open the shard of --content: see content-open');
      return check.run(test);
    },
  });
  return { title: 'Content', checks: checks.map(skipIfRefused) };
}

function below(path: string, files: readonly string[] = []): readonly string[] {
  return files.filter((file) => file === path || file.startsWith(`${path}/`));
}

const NAME = 'conform@1.0.0/shard';
const GOOD_ADVICE =
  'correct the function that opens a shard, whose error these words are, or name a shard that it can open with --content';
const NAMES = 20;
const TOGETHER = 8;
const ROUNDS = 100;
/** Rounds that are run even if each is slow, and those after which the open files are counted first. */
const ROUNDS_MIN = 20;
const ROUNDS_FIRST = 10;
/** A leak in each round would be more than this. */
const FILES_MORE_MAX = 5;
const NO_PROC = 'this machine has no /proc, where open files are seen';
