// The signal of a handler's context: when it aborts, and with what reason.
import { describe, expect, test } from 'vitest';
import { HandlerContext } from '../../../chassis-sdk/typescript/handler-context.ts';
import { MeshCaller } from '../../../chassis-sdk/typescript/mesh-client.ts';
import { CallSignal } from '../../../core/link/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT } from '../../../core/rpc/mod.ts';

import { once } from 'node:events';

const GONE = new KatamariError('cancelled', 'The connection of the caller has closed');

describe('The signal of a handler', () => {
  test('aborts when the deadline passes, and says so', async () => {
    const { signal } = contextOf({ deadlineMs: performance.now() + 5 });
    await once(signal, 'abort');
    expect(signal.reason).toMatchObject({ message: 'The deadline of this call has passed' });
  });

  test('aborts with the reason of the call when the caller has gone', () => {
    const call = new CallSignal();
    const { signal } = contextOf({ signal: call });
    expect(signal.aborted).toBe(false);
    call.abort(GONE);
    expect(signal.reason).toBe(GONE);
  });

  test('is aborted from the start when the caller had gone before the handler asked for it', () => {
    const call = new CallSignal();
    const context = contextOf({ signal: call });
    call.abort(GONE);
    expect(context.signal.reason).toBe(GONE);
  });

  test('no longer aborts once the call is answered', () => {
    const call = new CallSignal();
    const context = contextOf({ signal: call });
    const { signal } = context;
    context.settled();
    call.abort(GONE);
    expect(signal.aborted).toBe(false);
  });
});

function contextOf(change: { deadlineMs?: number; signal?: AbortSignal }): HandlerContext {
  const call = createCall({
    service: 'Work',
    method: 'plain',
    args: EMPTY_STRUCT,
    deadlineMs: performance.now() + 60_000,
    ...change,
  });
  return new HandlerContext(call, new MeshCaller('', 'test'), () => expect.unreachable('nothing is logged'));
}
