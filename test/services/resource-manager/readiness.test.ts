// The readiness check of a chassis that describes itself incompletely: another program wrote the description, so any
// field may be missing.

import { afterEach, describe, expect, test } from 'vitest';
import { encodeStruct } from '../../../core/idl/mod.ts';
import { startLinkServer, type LinkServer } from '../../../core/link/mod.ts';
import { DEFAULT_LIMITS, systemClock } from '../../../core/mod.ts';
import { chassisInterface, NO_REPLY_CONTEXT } from '../../../core/rpc/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { awaitReadiness } from '../../../services/resource-manager/readiness.ts';
import type { ExpectedChassis, ReadyChassis } from '../../../services/resource-manager/ready-chassis.ts';

const WHOLE = {
  serviceName: 'Echo',
  version: '1.0.0',
  roles: ['a'],
  tags: ['b'],
  more: { c: 'd' },
  idlMain: 'echo.thrift',
  idlFiles: { 'echo.thrift': 'service Echo { string say(1: string text) }' },
  concurrency: 3,
  sdk: 'by hand',
  ahead: 2,
};

let server: LinkServer | undefined;
afterEach(() => server?.close());

async function readinessOf(details: object | undefined): Promise<ReadyChassis> {
  const { methods } = chassisInterface();
  server = await startLinkServer('tcp:127.0.0.1:0', {
    send: ({ method }, sink) => {
      const { result } = methods.get(method) as Method;
      const body = encodeStruct(result, method === 'describe' && details !== undefined ? { success: details } : {});
      sink.reply({ isException: false, body, context: NO_REPLY_CONTEXT });
    },
    limits: DEFAULT_LIMITS,
    timeoutMs: () => 1_000,
    caller: 'a test',
  });
  const expected: Partial<ExpectedChassis> = {
    service: 'Echo',
    version: '1.0.0',
    roles: [],
    tags: [],
    more: {},
    idl: null,
    healthCheck: '',
    concurrency: null,
  };
  return awaitReadiness({
    name: 'Echo@1.0.0/1',
    address: server.address,
    expected: expected as ExpectedChassis,
    limits: DEFAULT_LIMITS,
    clock: systemClock,
    signal: new AbortController().signal,
    onLinkClosed: () => undefined,
    onConnectionsChanged: () => undefined,
    onUnreachable: () => undefined,
  });
}

function without(name: string): object {
  return Object.fromEntries(Object.entries(WHOLE).filter(([other]) => other !== name));
}

describe('A chassis that leaves out a field of its description', () => {
  test.each(['serviceName', 'version', 'idlMain', 'idlFiles'])('is refused with words when it is %s', async (name) => {
    await expect(readinessOf(without(name))).rejects.toThrow(
      `its answer to katamari.Chassis.describe has no ${name}; idl/chassis.thrift lists what it must return`,
    );
  });

  test.each([
    ['roles', { details: { roles: [] } }],
    ['tags', { details: { tags: [] } }],
    ['more', { details: { more: {} } }],
    ['concurrency', { concurrency: 1 }],
    ['ahead', { ahead: 0 }],
    ['sdk', { concurrency: 3 }],
  ])('is ready when it is %s', async (name, expected) => {
    const ready = await readinessOf(without(name));
    ready.link.close();
    expect(ready).toMatchObject(expected);
  });

  test('is refused with words when it describes nothing at all', async () => {
    await expect(readinessOf({})).rejects.toThrow('has no serviceName, no version, no idlMain, no idlFiles');
  });
});
