// The bodies of Consul's responses, by request. Another server or a proxy may reply instead of Consul, with status 200
// and any body. The client checks every body against its schema here before any code uses it. Unknown fields are
// ignored.

import { z } from 'zod';

/** One key of the KV store. */
export interface RawEntry {
  readonly Key: string;
  /** Base64. */
  readonly Value: string | null;
  readonly Flags: number;
  readonly LockIndex: number;
  readonly Session?: string | undefined;
  readonly CreateIndex: number;
  readonly ModifyIndex: number;
}

export interface RawSession {
  readonly ID: string;
  readonly Name: string;
  readonly Node: string;
  readonly Checks?: string[] | null | undefined;
}

export interface RawService {
  readonly ID: string;
  readonly Service: string;
  readonly Tags?: string[] | null | undefined;
  readonly Meta?: Record<string, string> | null | undefined;
  readonly Address: string;
  readonly Port: number;
}

export interface RawCheck {
  readonly Name: string;
  readonly Status: string;
  readonly ServiceID: string;
}

export interface RawSelf {
  readonly Config: { readonly NodeName: string; readonly Datacenter: string; readonly Version: string };
  readonly Member: { readonly Name: string; readonly Addr: string };
}

interface RawTransaction {
  readonly Results: readonly { readonly KV: { readonly ModifyIndex: number } }[] | null;
}

interface RawRefusals {
  readonly Errors: readonly { readonly OpIndex: number; readonly What: string }[];
}

const ENTRY: z.ZodType<RawEntry> = z.object({
  Key: z.string(),
  Value: z.string().nullable(),
  Flags: z.number(),
  LockIndex: z.number(),
  Session: z.string().optional(),
  CreateIndex: z.number(),
  ModifyIndex: z.number(),
});

const SESSION: z.ZodType<RawSession> = z.object({
  ID: z.string().min(1),
  Name: z.string(),
  Node: z.string(),
  Checks: z.array(z.string()).nullish(),
});

const SERVICE: z.ZodType<RawService> = z.object({
  ID: z.string(),
  Service: z.string(),
  Tags: z.array(z.string()).nullish(),
  Meta: z.record(z.string(), z.string()).nullish(),
  Address: z.string(),
  Port: z.number(),
});

const CHECK: z.ZodType<RawCheck> = z.object({ Name: z.string(), Status: z.string(), ServiceID: z.string() });

interface Responses {
  readonly entries: z.ZodType<RawEntry[]>;
  readonly applied: z.ZodType<boolean>;
  readonly transaction: z.ZodType<RawTransaction>;
  readonly refusals: z.ZodType<RawRefusals>;
  readonly createdSession: z.ZodType<{ readonly ID: string }>;
  readonly renewedSession: z.ZodType;
  readonly sessions: z.ZodType<RawSession[] | null>;
  readonly nothing: z.ZodType<undefined>;
  readonly services: z.ZodType<Record<string, RawService>>;
  readonly checks: z.ZodType<Record<string, RawCheck>>;
  readonly self: z.ZodType<RawSelf>;
  readonly leader: z.ZodType<string>;
}

export const RESPONSES: Responses = {
  /** Consul replies 404 instead of an empty list. */
  entries: z.array(ENTRY).min(1),
  /** Whether a write or a delete was applied. */
  applied: z.boolean(),
  transaction: z.object({ Results: z.array(z.object({ KV: z.object({ ModifyIndex: z.number() }) })).nullable() }),
  refusals: z.object({ Errors: z.array(z.object({ OpIndex: z.number(), What: z.string() })).min(1) }),
  createdSession: z.object({ ID: z.string().min(1) }),
  renewedSession: z.array(z.object({ ID: z.string() })).min(1),
  /** Empty when the session does not exist. */
  sessions: z.array(SESSION).nullable(),
  /** No body. */
  nothing: z.undefined(),
  services: z.record(z.string(), SERVICE),
  checks: z.record(z.string(), CHECK),
  self: z.object({
    Config: z.object({ NodeName: z.string(), Datacenter: z.string(), Version: z.string() }),
    Member: z.object({ Name: z.string(), Addr: z.string() }),
  }),
  leader: z.string().regex(/^(\S+:\d+)?$/),
};

/** Says what is wrong with a body, for an error message: `a response with Results[0].KV: expected object`. */
export function describeMismatch(body: unknown, { issues: [issue] }: z.ZodError): string {
  if (body === undefined) return 'a response without a body';
  if (Buffer.isBuffer(body) || (typeof body === 'string' && (issue?.path.length ?? 0) === 0)) {
    return `a response that is not JSON: ${JSON.stringify(body.toString('utf8').slice(0, TEXT_MAX))}`;
  }
  const where = issue?.path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('') ?? '';
  return `a response with ${where === '' ? 'a wrong body' : `a wrong ${where.replace(/^\./, '')}`}: ${issue?.message ?? ''}`;
}

const TEXT_MAX = 100;
