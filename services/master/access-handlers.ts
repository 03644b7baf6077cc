// The methods of the admin service about the access policy, in the shapes of idl/katamari.thrift.

import type { PolicyRecord } from '../mesh/mod.ts';

export interface AccessActions {
  /** The policy in force; undefined while there was never one. */
  readonly policy: () => PolicyRecord | undefined;
  /** @throws KatamariError bad_request */
  readonly setPolicy: (text: string, expectedVersion: number, by: string) => Promise<PolicyRecord>;
  readonly history: () => Promise<readonly PolicyRecord[]>;
  /** @throws KatamariError bad_request for a target that is not one */
  readonly explain: (asked: ExplainedAccess) => { readonly isAllowed: boolean; readonly why: string };
}

export interface ExplainedAccess {
  readonly caller: string;
  readonly roles: readonly string[];
  readonly target: string;
  readonly poolRoles: readonly string[];
}

/** The struct AccessPolicy. */
export interface ThriftPolicy {
  readonly version: number;
  readonly text: string;
  readonly changedBy: string;
  readonly changedAtMs: number;
}

export interface AccessHandlers {
  policy(): ThriftPolicy;
  setPolicy(text: string, expectedVersion: number, by: string): Promise<ThriftPolicy>;
  history(): Promise<ThriftPolicy[]>;
  explain(asked: ExplainedAccess): { readonly isAllowed: boolean; readonly why: string };
}

export function accessHandlers({ policy, setPolicy, history, explain }: AccessActions): AccessHandlers {
  return {
    policy: () => thriftPolicy(policy() ?? NO_POLICY),
    setPolicy: async (text, expectedVersion, by) => thriftPolicy(await setPolicy(text, expectedVersion, by)),
    history: async () => (await history()).map(thriftPolicy),
    explain,
  };
}

function thriftPolicy({ version, text, by, atMs }: PolicyRecord): ThriftPolicy {
  return { version, text, changedBy: by, changedAtMs: atMs };
}

const NO_POLICY: PolicyRecord = { version: 0, text: '', by: '', atMs: 0 };
