// What a kit tells its handlers about replies: a chassis calls an index of a link that plays the mesh.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'vitest';
import { encodeStruct, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { startLinkServer } from '../../../core/link/mod.ts';
import { DEFAULT_LIMITS } from '../../../core/mod.ts';
import { NO_REPLY_CONTEXT, type Call } from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { withManagedChassis } from './managed-chassis.ts';
import { REPOSITORY } from './repository.ts';

/**
 * Expects that a chassis of idl/conformance.thrift, which relays to RELAY_TO_INDEX, asks for coverage, and gets the
 * facts about replies with and without one.
 */
export async function expectReplyInfo(
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const idl = path.join(REPOSITORY, 'idl', 'conformance.thrift');
  const conformance = parseIdl(readIdlFile(idl)).services.get('Conformance') as Interface;
  const { result } = conformance.methods.get('echoText') as Method;
  const folder = mkdtempSync(path.join(tmpdir(), 'katamari-reply-info-'));
  const calls: Pick<Call, 'service' | 'method' | 'minCoverage'>[] = [];
  const coverage = { shards: 40, complete: 38, missing: ['wiki@2.1.0/a TIMED_OUT', 'wiki@2.1.0/b NO_REPLICA'] };
  const mesh = await startLinkServer(`unix:${path.join(folder, 'mesh')}`, {
    send: ({ service, method, minCoverage }, sink) => {
      calls.push({ service, method, minCoverage });
      const context = { ...NO_REPLY_CONTEXT, version: '2.1.0', ...(calls.length === 1 ? { coverage } : {}) };
      sink.reply({ isException: false, body: encodeStruct(result, { success: 'hello' }), context });
    },
    limits: DEFAULT_LIMITS,
    timeoutMs: () => TIMEOUT_MS,
    caller: 'a chassis',
  });
  try {
    const settings = { ...env, KATAMARI_MESH: mesh.address, RELAY_TO_INDEX: 'wiki' };
    await withManagedChassis(command, settings, async ({ ask }) => {
      const facts = '2.1.0 38/40 wiki@2.1.0/a:TIMED_OUT wiki@2.1.0/b:NO_REPLICA';
      expect(await ask(conformance, '', 'relay', { value: 'x' })).toBe(`hello ${facts}`);
      expect(await ask(conformance, '', 'relay', { value: 'x' })).toBe('hello 2.1.0');
    });
    const call = { service: 'wiki', method: 'echoText', minCoverage: 0.75 };
    expect(calls).toEqual([call, call]);
  } finally {
    await mesh.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const TIMEOUT_MS = 10_000;
