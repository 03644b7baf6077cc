// Every sample as a real process: it starts, answers, misbehaves as documented, and ends.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { until } from '../kit/tools/wait.ts';
import { startSample, type SampleProcess } from './sample-process.ts';

const startCalculator = (): Promise<SampleProcess> => startSample('calculator.ts', 'calculator.thrift', 'Calculator');
const startReformulate = (version: 1 | 2): Promise<SampleProcess> =>
  startSample(`reformulate-${version}.ts`, 'reformulate.thrift', 'Reformulate');
const startTroublemaker = (): Promise<SampleProcess> =>
  startSample('troublemaker.ts', 'troublemaker.thrift', 'Troublemaker');

describe('calculator.ts', () => {
  test('answers every method of the tutorial, and ends when its manager is gone', async () => {
    await using calculator = await startCalculator();
    expect(await calculator.control('describe')).toMatchObject({
      serviceName: 'Calculator',
      version: '1.0.0',
      tags: ['sample'],
    });
    expect(await calculator.call('ping')).toEqual({ value: null });
    expect(await calculator.call('add', { num1: 2, num2: 40 })).toEqual({ value: 42 });
    expect(await calculator.call('calculate', { logid: 1, w: { num1: 15, num2: 10, op: 'SUBTRACT' } })).toEqual({
      value: 5,
    });
    expect(await calculator.call('getStruct', { key: 1 })).toEqual({ value: { key: 1, value: '5' } });
    expect(await calculator.call('getStruct', { key: 2 })).toEqual({ value: { key: 2, value: '' } });
    expect(await calculator.call('zip')).toEqual({ value: null });
    calculator.cutLifeline();
    expect(await calculator.ended).toEqual({ code: 0, signal: null });
  });

  test('declares the exception of calculate, and answers an overflow of add with its message', async () => {
    await using calculator = await startCalculator();
    expect(await calculator.call('calculate', { logid: 1, w: { num1: 1, num2: 0, op: 'DIVIDE' } })).toEqual({
      exception: 'InvalidOperation',
      fields: { whatOp: 4, why: 'Cannot divide 1 by 0' },
    });
    expect(await calculator.call('add', { num1: 2_147_483_647, num2: 1 })).toEqual({
      failure: expect.stringContaining('2147483647 + 1 = 2147483648 does not fit an i32') as string,
    });
    expect(await calculator.call('ping')).toEqual({ value: null });
  });
});

describe('reformulate-1.ts and reformulate-2.ts', () => {
  test('have the same interface in two versions, and the second corrects words that the first cannot', async () => {
    await using first = await startReformulate(1);
    await using second = await startReformulate(2);
    expect(await first.control('describe')).toMatchObject({ serviceName: 'Reformulate', version: '1.0.0' });
    expect(await second.control('describe')).toMatchObject({ serviceName: 'Reformulate', version: '2.0.0' });
    const query = 'tommorow runing';
    expect(await first.call('analyze', { query })).toMatchObject({
      value: {
        tokens: [
          { text: 'tommorow', offset: 0, length: 8, kind: 'WORD', stem: 'tommorow' },
          { text: 'runing', offset: 9, length: 6, kind: 'WORD', stem: 'rune' },
        ],
        corrected: 'tommorow running',
      },
    });
    expect(await second.call('analyze', { query })).toMatchObject({ value: { corrected: 'tomorrow running' } });
    expect(await first.call('suggest', { word: 'tommorow' })).toEqual({ value: [] });
    expect(await second.call('suggest', { word: 'tommorow', limit: 1 })).toMatchObject({
      value: [{ word: 'tomorrow', distance: 2 }],
    });
    expect(await second.call('suggest', { word: 'teh', limit: 1 })).toMatchObject({ value: [{ word: 'the' }] });
    expect(await first.call('synonyms', { word: 'car' })).toMatchObject({
      value: ['auto', 'automobile', 'machine', 'motorcar', 'gondola', 'railcar'],
    });
    expect(await second.call('stem', { word: 'Connections' })).toEqual({ value: 'connect' });
    expect(await first.call('tokenize', { query: 'x'.repeat(1001) })).toEqual({
      exception: 'QueryRefused',
      fields: { why: 'The query has 1001 characters, the limit is 1000: shorten it' },
    });
  });
});

describe('troublemaker.ts', () => {
  test('answers its harmless methods, and states its limits', async () => {
    await using troublemaker = await startTroublemaker();
    const bytes = Buffer.from([0, 255, 1, 2]).toString('base64');
    expect(await troublemaker.call('echo', { bytes })).toEqual({ value: bytes });
    expect(await troublemaker.call('pid')).toEqual({ value: troublemaker.pid });
    expect(await troublemaker.call('sleep', { ms: 1 })).toEqual({ value: null });
    expect(await troublemaker.call('spin', { ms: 1 })).toEqual({ value: null });
    expect(await troublemaker.call('leak', { megabytes: 3 })).toEqual({ value: 3 });
    expect(await troublemaker.call('leak', { megabytes: 2 })).toEqual({ value: 5 });
    expect(await troublemaker.call('bigReply', { megabytes: 1 })).toEqual({
      value: Buffer.alloc(2 ** 20).toString('base64'),
    });
    expect(await troublemaker.call('sleep', { ms: -1 })).toEqual({
      exception: 'Trouble',
      fields: { why: 'ms is -1, it must be 0 to 60000', code: -1 },
    });
    expect(await troublemaker.call('leak', { megabytes: 513 })).toMatchObject({ exception: 'Trouble' });
  });

  test('throws on request and survives', async () => {
    await using troublemaker = await startTroublemaker();
    expect(await troublemaker.call('throwDeclared', { why: 'I was told to', code: 7 })).toEqual({
      exception: 'Trouble',
      fields: { why: 'I was told to', code: 7 },
    });
    expect(await troublemaker.call('throwUndeclared', { message: 'nobody declared this' })).toEqual({
      failure: expect.stringContaining('nobody declared this') as string,
    });
    expect(await troublemaker.call('pid')).toEqual({ value: troublemaker.pid });
  });

  test('writes much to stdout and stderr', async () => {
    await using troublemaker = await startTroublemaker();
    expect(await troublemaker.call('chatter', { lines: 4 })).toEqual({ value: null });
    await until('all four lines', () =>
      [1, 2, 3, 4].every((line) => troublemaker.output().includes(`says line ${line} of 4\n`)),
    );
  });

  test('sends a slow reply byte by byte, and answers calls received meanwhile after it', async () => {
    await using troublemaker = await startTroublemaker();
    const order: string[] = [];
    const slow = troublemaker.call('slowReply', { ms: 100 }).then((outcome) => {
      order.push('slow');
      return outcome;
    });
    const ping = troublemaker.control('ping').then(() => order.push('ping'));
    expect(await slow).toEqual({ value: expect.stringMatching(/^Dripped out in 20 pieces\./) as string });
    await ping;
    expect(order).toEqual(['slow', 'ping']);
    expect(await troublemaker.call('pid')).toEqual({ value: troublemaker.pid });
  });

  test('dies of an uncaught exception on crash, with the call in flight', async () => {
    await using troublemaker = await startTroublemaker();
    await expect(troublemaker.call('crash')).rejects.toMatchObject({ code: 'resource_failed' });
    expect(await troublemaker.ended).toEqual({ code: 1, signal: null });
    await until('the crash on stderr', () => troublemaker.output().includes('Troublemaker was asked to crash'));
  });

  test('exits with the given code without answering', async () => {
    await using troublemaker = await startTroublemaker();
    await expect(troublemaker.call('exit', { code: 7 })).rejects.toMatchObject({ code: 'resource_failed' });
    expect(await troublemaker.ended).toEqual({ code: 7, signal: null });
  });

  test('writes bytes that are not Thrift, which breaks the link', async () => {
    await using troublemaker = await startTroublemaker();
    await expect(troublemaker.call('garbage')).rejects.toMatchObject({
      code: 'resource_failed',
      message: expect.stringContaining('broke the protocol') as string,
    });
  });

  test('answers pings while hangAsync never returns', async () => {
    await using troublemaker = await startTroublemaker();
    const call = watch(troublemaker.call('hangAsync'));
    await troublemaker.control('ping');
    await troublemaker.control('ping');
    expect(call.hung()).toBe(true);
  });

  test('answers nothing while hang loops', async () => {
    await using troublemaker = await startTroublemaker();
    const call = watch(troublemaker.call('hang'));
    const ping = watch(troublemaker.control('ping'));
    const before = processorTicks(troublemaker.pid);
    // CPU time, not elapsed time, shows that it had the chance to answer.
    await until('a process that is busy', () => processorTicks(troublemaker.pid) > before + 30);
    expect([call.hung(), ping.hung()]).toEqual([true, true]);
  });

  test('leaves an orphaned child in its process group', async () => {
    await using troublemaker = await startTroublemaker();
    const outcome = await troublemaker.call('spawnChild');
    const child = (outcome as { readonly value: number }).value;
    expect(processGroup(child)).toBe(troublemaker.pid);
  });

  test('answers retire, and exits with status 0', async () => {
    await using troublemaker = await startTroublemaker();
    expect(await troublemaker.call('retire')).toEqual({ value: troublemaker.pid });
    expect(await troublemaker.ended).toEqual({ code: 0, signal: null });
  });
});

/** Returns a function that tells whether the call has not settled. Later outcomes are ignored. */
function watch(call: Promise<unknown>): { hung(): boolean } {
  let isSettled = false;
  void call.then(
    () => (isSettled = true),
    () => (isSettled = true),
  );
  return { hung: () => !isSettled };
}

/**
 * Fields of /proc/PID/stat after the program's name, which may contain spaces: state, parent, group, ... user and
 * system time.
 */
function statOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
}

function processGroup(pid: number): number {
  return Number(statOf(pid)[2]);
}

/** CPU time used so far, in ticks of 10 ms. */
function processorTicks(pid: number): number {
  const stat = statOf(pid);
  return Number(stat[11]) + Number(stat[12]);
}
