// Tables that exist twice, in TypeScript and in IDL or documentation, must agree.

import { describe, expect, test } from 'vitest';
import { decodeStruct, encodeStruct, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { readCallContext, writeReplyContext } from '../../core/link/context.ts';
import { hasContext, readReplyContext, writeCallContext } from '../../core/link/mod.ts';
import { ERROR_TABLE, KatamariError, type ErrorCode } from '../../core/mod.ts';
import { createCall, identityOf, type ReplyContext, StatsTable, RESOURCE_STATES } from '../../core/rpc/mod.ts';
import { EVENT_KINDS, RESTART_REASONS } from '../../core/rpc/status.ts';
import type { StructType } from '../../core/thrift/mod.ts';
import { read } from './repository.ts';

const idl = parseIdl(readIdlFile(new URL('../../idl/katamari.thrift', import.meta.url)));

function structOf(name: string): StructType {
  const found = idl.structs.get(name);
  if (found === undefined) throw new Error(`idl/katamari.thrift has no struct ${name}`);
  return found;
}

const fieldNames = (struct: StructType): string[] => struct.fields.map(({ name }) => name);

describe('ERROR_TABLE', () => {
  test('has the numbers of enum ErrorCode in idl/katamari.thrift', () => {
    const codes = Object.entries(ERROR_TABLE).map(([code, { wire }]) => [code.toUpperCase(), wire]);
    expect(Object.fromEntries(codes)).toEqual(Object.fromEntries(idl.enums.get('ErrorCode')?.byName ?? []));
  });

  test('equals the table in docs/operations.md', () => {
    const rows = [
      ...read('docs/operations.md').matchAll(
        /^\| `(\w+)` \| [^|]+ \| (\d) \| (-\d+) \| (\d+) \| (\w+) \| ([\w ]+) \|$/gm,
      ),
    ].map(([, code, thrift, jsonRpc, http, outcome, retry]) => [
      code,
      { thrift: Number(thrift), jsonRpc: Number(jsonRpc), http: Number(http), outcome, retry },
    ]);
    const table = Object.entries(ERROR_TABLE).map(([code, { thrift, jsonRpc, http, outcome, retry }]) => [
      code,
      { thrift, jsonRpc, http, outcome, retry },
    ]);
    expect(rows).toEqual(table);
  });
});

describe('The contexts in field 32767', () => {
  const call = createCall({
    service: 'Ranker',
    method: 'rank',
    args: Uint8Array.of(0),
    deadlineMs: 0,
    version: '1.2.3',
    roles: ['staging'],
    headers: { 'client-build': '42' },
    tags: ['fast', 'eu'],
    details: { model: 'small', ort: 'Zürich' },
    key: 'user-17',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    tracestate: 'a=b',
    caller: 'a test',
    identity: identityOf('billing', 'mtls', ['finance', 'eu']),
    attempt: 2,
    doNotQueue: true,
    minCoverage: 0.9,
    group: 'copies 17',
  });
  const identityFields = { identityName: 'billing', identityRoles: ['finance', 'eu'], identityHow: 'mtls' };
  const { service, version, roles, tags, key, traceparent, tracestate, caller, attempt, doNotQueue } = call;
  const { minCoverage, group } = call;
  const headerBytes = new Map(Object.entries(call.headers).map((pair) => [Buffer.from(pair[0]), Buffer.from(pair[1])]));
  const texts = { version, roles, tags, key, traceparent, tracestate, caller, group };
  const callFields = { ...texts, attempt, doNotQueue, minCoverage };

  test('are written with every field of struct CallContext', () => {
    const bytes = writeCallContext(call, 1_500_000, 86_400_000.5);
    expect(hasContext(bytes, 0)).toBe(true);
    const found = decodeStruct(structOf('CallContext'), bytes.subarray(3), { i64: 'number' });
    expect(found).toEqual({
      ...callFields,
      ...identityFields,
      timeLeftUs: 1_500_000,
      deadlineUs: 86_400_000_500,
      serviceName: service,
      details: new Map(Object.entries(call.details)),
      headers: headerBytes,
    });
    expect(Object.keys(found).sort()).toEqual(fieldNames(structOf('CallContext')).sort());
  });

  test('are read with every field of struct CallContext', () => {
    const struct = encodeStruct(structOf('CallContext'), {
      ...callFields,
      ...identityFields,
      timeLeftUs: 2 ** 40,
      deadlineUs: 2 ** 41,
      serviceName: service,
      details: call.details,
      headers: headerBytes,
    });
    const bytes = Buffer.concat([Buffer.of(12, 0x7f, 0xff), struct]);
    expect(readCallContext(bytes, 0)).toEqual({
      context: {
        ...callFields,
        identity: call.identity,
        timeLeftUs: 2 ** 40,
        deadlineUs: 2 ** 41,
        service,
        details: call.details,
        headers: call.headers,
      },
      end: bytes.length,
    });
  });

  const reply: ReplyContext = {
    version: '1.2.3',
    queueUs: 12_000,
    serviceUs: 3_400,
    freeNow: 2,
    queuedNow: 5,
    resource: 'Ranker@1.2.3/1',
    coverage: { shards: 40, complete: 39, missing: ['wiki@1.0.0/part-00007 TIMED_OUT'] },
    rule: 'testers',
  };
  const error = new KatamariError('overloaded', 'x', {
    retryAfterMs: 250,
    stage: 'service',
    notRun: true,
    isSuspect: true,
  });
  const told = { retryAfterMs: 250, stage: 2, notRun: true, isSuspect: true };
  const { coverage, ...plain } = reply;
  const shards = { shards: coverage?.shards, completeShards: coverage?.complete, missingShards: coverage?.missing };
  const replyFields = { ...plain, ...shards, errorCode: 2, ...told, retire: true };

  test('are written with every field of struct ReplyContext', () => {
    const bytes = writeReplyContext(reply, error, true);
    const found = decodeStruct(structOf('ReplyContext'), bytes.subarray(3), { i64: 'number' });
    expect(found).toEqual(replyFields);
    expect(Object.keys(found).sort()).toEqual(fieldNames(structOf('ReplyContext')).sort());
  });

  test('are read with every field of struct ReplyContext', () => {
    const bytes = Buffer.concat([Buffer.of(12, 0x7f, 0xff), encodeStruct(structOf('ReplyContext'), replyFields)]);
    expect(readReplyContext(bytes, 0)).toEqual({
      context: { ...reply, retire: true, error: { code: 2, ...told } },
      end: bytes.length,
    });
  });
});

describe('core/rpc/status.ts', () => {
  const source = read('core/rpc/status.ts');

  /** Fields of an interface as declared; fields of nested objects are indented deeper. */
  function fieldsOf(name: string): string[] {
    const body = new RegExp(`^export interface ${name} \\{\\n(.*?)^\\}`, 'ms').exec(source)?.[1] ?? '';
    return [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, field]) => field as string);
  }

  for (const [name, struct] of [
    ['ResourceStatus', 'ResourceStatus'],
    ['PoolStatus', 'PoolStatus'],
    ['MeshStatus', 'MeshStatus'],
    ['MeshEvent', 'Event'],
  ] as const) {
    test(`has in ${name} the fields of struct ${struct} in idl/katamari.thrift`, () => {
      // Thrift compilers reserve the word `service`.
      const fields = fieldsOf(name).map((field) => (field === 'service' ? 'serviceName' : field));
      expect(fields.length).toBeGreaterThan(5);
      expect(fields.sort()).toEqual(fieldNames(structOf(struct)).sort());
    });
  }

  test('has the counters of a StatsTable in struct CallSums', () => {
    expect(fieldNames(structOf('CallSums')).sort()).toEqual(Object.keys(new StatsTable().sums()).sort());
  });

  test('has states, reasons and events that the documentation explains', () => {
    const [operations, observability] = [read('docs/operations.md'), read('docs/observability.md')];
    expect(EVENT_KINDS.filter((kind) => !operations.includes(`\`${kind}\``))).toEqual([]);
    expect(RESTART_REASONS.filter((reason) => !operations.includes(`\`${reason}\``))).toEqual([]);
    expect(RESOURCE_STATES.filter((state) => !observability.includes(state))).toEqual([]);
  });
});

describe('The codes of ERROR_TABLE', () => {
  test('are explained in docs/json-rpc.md, except those that its clients never get', () => {
    const page = read('docs/json-rpc.md');
    const unmet: readonly ErrorCode[] = ['rate_limited', 'cancelled'];
    const codes = (Object.keys(ERROR_TABLE) as ErrorCode[]).filter((code) => !unmet.includes(code));
    expect(codes.filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
  });
});
