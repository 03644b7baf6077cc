import { describe, expect, test } from 'vitest';
import { CallSignal } from '../../../core/link/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import {
  createCall,
  dispatchOf,
  EMPTY_STRUCT,
  NO_REPLY_CONTEXT,
  type Call,
  type CallSink,
  type Reply,
  ConcurrencyLimit,
} from '../../../core/rpc/mod.ts';

const REPLY: Reply = { isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT };

/** A limit whose calls end when the test says so. */
function bench(atOnce: number) {
  const begun: { readonly method: string; readonly sink: CallSink }[] = [];
  const line = new ConcurrencyLimit(({ method }, sink) => void begun.push({ method, sink }), atOnce);
  const call = (method: string, signal?: CallSignal): Call =>
    createCall({ service: '', method, args: EMPTY_STRUCT, deadlineMs: 1_000, signal });
  const end = (method: string): void => begun.find((one) => one.method === method)?.sink.reply(REPLY);
  return { line, dispatch: dispatchOf(line.send), call, end, begun: () => begun.map(({ method }) => method) };
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

describe('ConcurrencyLimit', () => {
  test('starts a call when the reply to the previous one has been sent, in the order of the calls', async () => {
    const { dispatch, call, end, begun } = bench(1);
    const work = ['a', 'b', 'c'].map((method) => dispatch(call(method)));
    expect(begun()).toEqual(['a']);
    end('a');
    // Not before the bytes given to the socket in this turn have been sent.
    expect(begun()).toEqual(['a']);
    await Promise.resolve();
    expect(begun()).toEqual(['a', 'b']);
    end('b');
    await Promise.resolve();
    end('c');
    expect(await Promise.all(work)).toEqual([REPLY, REPLY, REPLY]);
  });

  test('starts none in the turn in which the previous one was answered, not even one that arrives in that turn', async () => {
    const { dispatch, call, end, begun } = bench(1);
    void dispatch(call('a'));
    end('a');
    void dispatch(call('b'));
    expect(begun()).toEqual(['a']);
    await Promise.resolve();
    expect(begun()).toEqual(['a', 'b']);
  });

  test('runs up to its limit of calls concurrently', async () => {
    const { dispatch, call, end, begun } = bench(2);
    for (const method of ['a', 'b', 'c']) void dispatch(call(method));
    expect(begun()).toEqual(['a', 'b']);
    end('b');
    await Promise.resolve();
    expect(begun()).toEqual(['a', 'b', 'c']);
  });

  test('never starts a call that was cancelled while it waited', async () => {
    const { dispatch, call, end, begun } = bench(1);
    const signal = new CallSignal();
    const work = [call('a'), call('b', signal), call('c')].map((one) => dispatch(one));
    const ends = work.map((one) => codeOf(one));
    signal.abort(new KatamariError('cancelled', 'by the test'));
    end('a');
    await Promise.resolve();
    expect(begun()).toEqual(['a', 'c']);
    expect(await ends[1]).toBe('cancelled true');
  });

  test('refuses waiting and new calls once closed: they have not run', async () => {
    const { line, dispatch, call, end, begun } = bench(1);
    void dispatch(call('a'));
    const waiting = codeOf(dispatch(call('b')));
    line.close('Work@1.0.0/1 retires');
    expect(await waiting).toBe('draining true');
    expect(await codeOf(dispatch(call('c')))).toBe('draining true');
    end('a');
    await Promise.resolve();
    expect(begun()).toEqual(['a']);
  });
});
