// Guards the methods of the admin service: finds out whose token a call carries, checks its scope, and writes changes
// and refusals to the audit log. A change is answered when its line is on disk, or after a limit if the disk is slow.

import { timingSafeEqual } from 'node:crypto';
import { KatamariError, type Clock } from '../../core/mod.ts';
import { ThriftException } from '../../core/thrift/mod.ts';
import type { AuditLog, RefusalCode } from '../audit/mod.ts';
import { ConsulError } from '../consul/mod.ts';
import { sourceOf } from '../../core/rpc/mod.ts';
import { ADMIN_SCOPES, sha256Of, type AdminScope, type KnownToken, type TokenStore } from '../mesh/mod.ts';
import { FailedAttempts } from './failed-attempts.ts';
import { isDeepStrictEqual } from 'node:util';

export interface TokenArgs {
  readonly token: string;
}

/** One call of a method whose token has the scope of the method. */
export interface AdminCall {
  readonly caller: KnownToken;
  /** Its address. */
  readonly from: string;
  /** Tells the audit log the documents before and after the change; null for none. The last call counts. */
  readonly note: (before: unknown, after: unknown) => void;
}

/** A method of the admin service. */
export interface AdminMethod<Args extends TokenArgs = never> {
  readonly scope: AdminScope;
  /** What the call changes, for the audit log. Without it, the method changes nothing. */
  readonly subject?: (args: Args) => string;
  /** Also writes a line when the change begins, because it can take long. */
  readonly isLong?: boolean;
  readonly act: (args: Args, call: AdminCall) => unknown;
}

export interface AdminGuardOptions {
  /** The tokens with all scopes, which work without Consul. */
  readonly rootTokens: () => readonly string[];
  readonly tokens: TokenStore;
  readonly audit: AuditLog;
  readonly clock: Clock;
}

/** Context of a call, as the handlers get it. */
export interface AdminContext {
  /** Address of the caller. */
  readonly from: string;
}

export class AdminGuard {
  readonly #options: AdminGuardOptions;
  readonly #attempts: FailedAttempts;

  constructor(options: AdminGuardOptions) {
    this.#options = options;
    this.#attempts = new FailedAttempts(options.clock);
  }

  /** Returns the handler of a method. It throws AdminRefused, or an error that is a defect. */
  handler<Args extends TokenArgs>(
    name: string,
    method: AdminMethod<Args>,
  ): (args: Args, context: AdminContext) => Promise<unknown> {
    return async (args, { from }) => {
      const { audit } = this.#options;
      try {
        const caller = this.#admit(name, method, args, from);
        return await this.#run(name, method, args, caller, from);
      } finally {
        await audit.flushed();
      }
    };
  }

  /** Returns the owner of the token. @throws ThriftException AdminRefused */
  #admit<Args extends TokenArgs>(name: string, method: AdminMethod<Args>, args: Args, from: string): KnownToken {
    const { audit } = this.#options;
    const subject = method.subject?.(args) ?? '';
    const refuse = (code: RefusalCode, reason: string, who = ''): ThriftException => {
      audit.refused({ code, who, from, action: name, subject, reason });
      return refused(code, reason);
    };
    const caller = this.#find(args.token, from);
    if (caller === undefined) {
      const waitMs = this.#attempts.failed(sourceOf(from));
      if (waitMs > 0) {
        const seconds = Math.ceil(waitMs / 1_000);
        throw refuse('rate_limited', `too many wrong tokens came from ${sourceOf(from)}; try again in ${seconds} s`);
      }
      const why = this.#options.tokens.isKnown
        ? 'the token is wrong, has expired or was revoked'
        : 'only the root token works, because Consul has not answered yet, and the token is wrong';
      throw refuse('wrong_token', `${why}; ${ROOT_TOKEN}`);
    }
    if (caller.scopes.includes(method.scope)) return caller;
    const has = caller.scopes.length === 0 ? 'none' : caller.scopes.join(', ');
    throw refuse(
      'missing_scope',
      `${name} needs the scope ${method.scope}, and the token ${caller.name} has ${has}; ` +
        `somebody with all scopes can create one that has it: katamari token create NAME --scopes ${[...caller.scopes, method.scope].join(',')}`,
      caller.name,
    );
  }

  #find(token: string, from: string): KnownToken | undefined {
    const { rootTokens, tokens } = this.#options;
    const sha256 = sha256Of(token);
    const given = Buffer.from(sha256);
    const root = rootTokens().find((one) => timingSafeEqual(Buffer.from(sha256Of(one)), given));
    if (root === undefined) return tokens.findHash(sha256);
    // Only a short token could be guessed. A long one works at any time, so that wrong tokens cannot lock anybody
    // out.
    const isGuessable = root.length < SAFE_CHARS_MIN;
    return isGuessable && this.#attempts.isLimited(sourceOf(from)) ? undefined : ROOT;
  }

  async #run<Args extends TokenArgs>(
    name: string,
    method: AdminMethod<Args>,
    args: Args,
    caller: KnownToken,
    from: string,
  ): Promise<unknown> {
    const { audit } = this.#options;
    const { subject: subjectOf, isLong = false } = method;
    let noted: { before?: unknown; after?: unknown } = {};
    const call: AdminCall = { caller, from, note: (before, after) => (noted = { before, after }) };
    const common = { who: caller.name, from, action: name, subject: subjectOf?.(args) ?? '' };
    if (subjectOf !== undefined && isLong) audit.record({ ...common, result: 'started' });
    try {
      const result = await method.act(args, call);
      const { before, after } = noted;
      const isUnchanged = before !== undefined && isDeepStrictEqual(before, after);
      if (subjectOf !== undefined) audit.record({ ...common, ...noted, result: isUnchanged ? 'unchanged' : 'done' });
      return result;
    } catch (error) {
      const refusal = asRefusal(error);
      if (subjectOf !== undefined) {
        const { code = 'internal', why = String(error) } = (refusal?.fields ?? {}) as { code?: string; why?: string };
        const result = REFUSED.has(code) ? 'refused' : 'failed';
        audit.record({ ...common, ...noted, result, code, reason: why });
      }
      throw refusal ?? error;
    }
  }
}

/** Converts errors that an operator can fix to AdminRefused. Returns undefined for defects. */
function asRefusal(error: unknown): ThriftException | undefined {
  if (error instanceof ThriftException) return error;
  if (error instanceof KatamariError) return refused(error.code, error.message);
  if (error instanceof ConsulError) {
    const advice = 'Check the current state with katamari status and try again';
    return refused('consul_failed', `Consul failed (${error.message}). ${advice}`);
  }
  return undefined;
}

export function refused(code: string, why: string): ThriftException {
  return new ThriftException('AdminRefused', { why, code });
}

/** The owner of the root token. */
const ROOT: KnownToken = { name: 'admin', scopes: ADMIN_SCOPES, roles: [], createdAtMs: 0, createdBy: '' };
const ROOT_TOKEN =
  'the root token is the content of the file admin-token in the data directory, or admin.token of the configuration';
/** Codes of a change that was not made. After others, it may have been made. */
const REFUSED: ReadonlySet<string> = new Set(['invalid', 'bad_request', 'no_pool', 'unknown_name', 'missing_scope']);
/** Characters of a token that nobody can guess, also if it consists of hexadecimal digits. */
const SAFE_CHARS_MIN = 32;
