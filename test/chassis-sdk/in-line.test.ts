import { describe, expect, test } from 'vitest';
import {
  createCall,
  dispatchOf,
  EMPTY_STRUCT,
  NO_REPLY_CONTEXT,
  type Call,
  type Reply,
} from '../../chassis-sdk/call.ts';
import { KatamariError } from '../../chassis-sdk/errors.ts';
import { InLine } from '../../chassis-sdk/in-line.ts';
import { CallSignal } from '../../chassis-sdk/wire/call-signal.ts';

const REPLY: Reply = { isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT };

/** A line whose calls end when the test says so. */
function bench(atOnce: number) {
  const begun: Call[] = [];
  const line = new InLine((call, sink) => {
    begun.push(call);
    sink.reply(REPLY);
  }, atOnce);
  const call = (method: string, signal?: CallSignal): Call =>
    createCall({ service: '', method, args: EMPTY_STRUCT, deadlineMs: 1_000, signal });
  return { line, dispatch: dispatchOf(line.send), call, begun: () => begun.map(({ method }) => method) };
}

/** The code of the error that a call ends with; '' for none. */
async function codeOf(work: Promise<Reply>): Promise<string> {
  try {
    await work;
    return '';
  } catch (error) {
    return error instanceof KatamariError ? `${error.code} ${error.facts.notRun === true}` : String(error);
  }
}

describe('InLine', () => {
  test('begins a call when the answer to the one before it was handed on, in the order of the calls', async () => {
    const { line, dispatch, call, begun } = bench(1);
    const calls = ['a', 'b', 'c'].map((method) => call(method));
    const work = calls.map((one) => dispatch(one));
    await work[0];
    expect(begun()).toEqual(['a']);
    line.ended(calls[0] as Call);
    // Not before what was given to the socket in this turn has left.
    expect(begun()).toEqual(['a']);
    await Promise.resolve();
    expect(begun()).toEqual(['a', 'b']);
    line.ended(calls[1] as Call);
    await Promise.resolve();
    line.ended(calls[2] as Call);
    expect(await Promise.all(work)).toEqual([REPLY, REPLY, REPLY]);
  });

  test('works on so many at once', async () => {
    const { line, dispatch, call, begun } = bench(2);
    const calls = ['a', 'b', 'c'].map((method) => call(method));
    for (const one of calls) void dispatch(one);
    expect(begun()).toEqual(['a', 'b']);
    line.ended(calls[1] as Call);
    await Promise.resolve();
    expect(begun()).toEqual(['a', 'b', 'c']);
  });

  test('never begins one that was taken back while it waited', async () => {
    const { line, dispatch, call, begun } = bench(1);
    const signal = new CallSignal();
    const calls = [call('a'), call('b', signal), call('c')];
    const work = calls.map((one) => dispatch(one));
    signal.abort(new KatamariError('cancelled', 'taken back'));
    line.ended(calls[0] as Call);
    await Promise.resolve();
    expect(begun()).toEqual(['a', 'c']);
    expect(await codeOf(work[1] as Promise<Reply>)).toBe('cancelled true');
  });

  test('closed, refuses those that wait and those that come: they have not run', async () => {
    const { line, dispatch, call, begun } = bench(1);
    const first = call('a');
    void dispatch(first);
    const waiting = dispatch(call('b'));
    line.close('Work@1.0.0/1 retires');
    expect(await codeOf(waiting)).toBe('draining true');
    expect(await codeOf(dispatch(call('c')))).toBe('draining true');
    line.ended(first);
    expect(begun()).toEqual(['a']);
  });

  test('is not moved on by answers to calls that did not pass through it', () => {
    const { line, dispatch, call, begun } = bench(1);
    void dispatch(call('a'));
    void dispatch(call('b'));
    line.ended(call('ping'));
    expect(begun()).toEqual(['a']);
  });
});
