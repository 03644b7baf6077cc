// Calls of control services: what of the answer reaches the caller.

import { describe, expect, test } from 'vitest';
import { encodeResult, type JsonResult } from '../../../core/idl/json.ts';
import { KatamariError } from '../../../core/mod.ts';
import { callControl, contentInterface, createCall, NO_REPLY_CONTEXT, type Call } from '../../../core/rpc/mod.ts';
import { writeApplicationException, type Method } from '../../../core/thrift/mod.ts';

const CONTENT = contentInterface();
const OPEN = CONTENT.methods.get('open') as Method;
const what = { service: 'katamari.Content', method: 'open', deadlineMs: 5_000, caller: 'a manager' };
const params = { shard: 'wiki@1.0.0/a', path: '/srv/a' };

describe('callControl()', () => {
  test('sends the arguments with service, deadline and caller, and returns the value', async () => {
    const sent: Call[] = [];
    const result: JsonResult = { ok: true, value: { entries: 3, more: { format: 'fts5' } } };
    const answer = await callControl(
      (call) => {
        sent.push(call);
        return Promise.resolve({ isException: false, body: encodeResult(OPEN, result), context: NO_REPLY_CONTEXT });
      },
      CONTENT,
      what,
      params,
    );
    expect(answer).toEqual({ kind: 'result', value: result.value });
    expect(sent).toEqual([createCall({ ...what, args: sent[0]?.args as Uint8Array })]);
    expect(Buffer.from(sent[0]?.args as Uint8Array).toString()).toContain('wiki@1.0.0/a');
  });

  test('returns the fields of a declared exception, and the message of one that is not', async () => {
    const fields = { why: 'no magic number', isDamaged: true };
    const body = encodeResult(OPEN, { ok: false, exception: 'ShardRefused', fields });
    const declared = callControl(
      () => Promise.resolve({ isException: false, body, context: NO_REPLY_CONTEXT }),
      CONTENT,
      what,
      params,
    );
    expect(await declared).toMatchObject({ kind: 'declared', fields });
    const failed = callControl(
      () =>
        Promise.resolve({
          isException: true,
          body: writeApplicationException('no such thing', 6),
          context: NO_REPLY_CONTEXT,
        }),
      CONTENT,
      what,
      params,
    );
    expect(await failed).toEqual({ kind: 'failed', message: 'no such thing' });
  });

  test('throws what the dispatch throws, and names a method that the service does not have', async () => {
    const lost = new KatamariError('resource_failed', 'the link is lost');
    await expect(callControl(() => Promise.reject(lost), CONTENT, what, params)).rejects.toBe(lost);
    const unknown = callControl(() => Promise.reject(lost), CONTENT, { ...what, method: 'stroke' });
    await expect(unknown).rejects.toThrow('katamari.Content has no method stroke');
  });
});
