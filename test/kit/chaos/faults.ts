// The faults injected into a cluster, and whether a fault explains that a call got no reply.

import type { CallRecord } from '../cluster/callers.ts';

/**
 * - kill, term, freeze: SIGKILL, SIGTERM, SIGSTOP (and SIGCONT later) to a process.
 * - chassis kill, chassis freeze: the same to a chassis.
 * - consul kill, consul freeze: to one or all of its servers.
 * - consul wipe: all servers are killed and come back without data.
 * - consul nonsense: the proxies in front of Consul answer every request with 200 and a senseless body.
 * - no files: a process can open no more files and connections.
 * - disk full: the file system with the data and the log of a process is full.
 * - chassis out of memory: a chassis gets no more memory.
 * - cut: packets between a faceplate and a manager are lost.
 * - drain: a manager is drained for a while.
 * - scale: the number of copies changes.
 * - roll: a rolling restart.
 * - shard damaged, shard gone: a byte of a shard on the disk of a manager is another one, or a file of it is missing,
 *   and its content server is killed, so that it is opened again.
 * - source away: the folder from which the shards of an index version are fetched is missing.
 * - index rollout: a version of an index is added and gets the calls, and the old one is removed.
 * - leader kill: the leading master is killed while an index version is added.
 */
export type FaultKind =
  | 'kill'
  | 'term'
  | 'freeze'
  | 'chassis kill'
  | 'chassis freeze'
  | 'consul kill'
  | 'consul freeze'
  | 'consul wipe'
  | 'consul nonsense'
  | 'no files'
  | 'disk full'
  | 'chassis out of memory'
  | 'cut'
  | 'drain'
  | 'scale'
  | 'roll'
  | 'shard damaged'
  | 'shard gone'
  | 'source away'
  | 'index rollout'
  | 'leader kill';

export interface Fault {
  readonly kind: FaultKind;
  /** The process concerned; for a chassis and for a cut, its manager. */
  readonly target: string;
  /** Name of the chassis. */
  readonly resource: string;
  /** For a cut, the faceplate. */
  readonly other: string;
  readonly fromMs: number;
  /** Infinity while the fault lasts. */
  untilMs: number;
}

/**
 * Whether the fault can be the reason why the call failed. Planned changes (term, drain, scale, roll) and faults of
 * masters and Consul must not fail a call, so they never explain one.
 */
export function explains(
  { kind, target, resource, other, fromMs, untilMs }: Fault,
  call: FailedCall,
  timeoutMs: number,
): boolean {
  const { end, faceplate, sentAtMs, settledAtMs } = call;
  if (end.ok) return false;
  const { code, message } = end;
  const overlaps = (slackMs: number): boolean => sentAtMs <= untilMs + slackMs && settledAtMs >= fromMs;
  const isAt = message.includes(target) || message === '';
  switch (kind) {
    case 'kill':
      if (target.startsWith('faceplate')) return code === 'lost' && faceplate === target && overlaps(0);
      // Idempotent calls are retried on another manager.
      return target.startsWith('manager') && isBroken(code) && call.method === 'once' && isAt && overlaps(NOTICED_MS);
    case 'freeze':
      if (target.startsWith('faceplate')) return code === 'timeout' && faceplate === target && overlaps(NOTICED_MS);
      // Calls waiting in the manager go on to a chassis when it wakes up, or time out.
      return target.startsWith('manager') && (isBroken(code) || code === 'timeout') && isAt && overlaps(timeoutMs);
    case 'no files':
      // Its new connections are closed or not accepted.
      return code === 'lost' && faceplate === target && overlaps(NOTICED_MS);
    case 'chassis kill':
      return (
        isBroken(code) && call.method === 'once' && message.startsWith(`${resource} failed`) && overlaps(NOTICED_MS)
      );
    case 'chassis out of memory':
      // It ends by itself, so its call may be the cause, and is not retried even if it is idempotent.
      return isBroken(code) && message.startsWith(`${resource} failed`) && overlaps(NOTICED_MS);
    case 'chassis freeze':
      // The chassis takes one more call, which stays in it until it is killed. The faceplate may give that call up
      // before the manager does.
      return (isBroken(code) || code === 'timeout') && (message.includes(resource) || isAt) && overlaps(timeoutMs);
    case 'cut':
      return (isBroken(code) || code === 'timeout') && faceplate === other && isAt && overlaps(CUT_NOTICED_MS);
    case 'term':
    case 'consul kill':
    case 'consul freeze':
    case 'consul wipe':
    case 'consul nonsense':
    case 'disk full':
    case 'drain':
    case 'scale':
    case 'roll':
    case 'shard damaged':
    case 'shard gone':
    case 'source away':
    case 'index rollout':
    case 'leader kill':
      return false;
  }
}

/**
 * Whether the fault can be the reason why a call of an index failed. Its shards have replicas, and such calls can be
 * repeated, so only what happens to the faceplate of the call explains a failure. A call that was in two copies of a
 * content server when they were killed is refused for a while as one that kills them.
 */
export function explainsIndexCall({ kind, target, fromMs, untilMs }: Fault, call: FailedCall): boolean {
  const { end, faceplate, sentAtMs, settledAtMs } = call;
  if (end.ok || settledAtMs < fromMs) return false;
  if (end.code === 'refused_as_poison') return ENDS_COPIES.has(kind) && sentAtMs <= untilMs + POISON_MS;
  if (faceplate !== target || sentAtMs > untilMs + NOTICED_MS) return false;
  // A connection that is at rest between two calls may be closed while the next call is on its way.
  if (end.code === 'lost') return kind === 'kill' || kind === 'term' || kind === 'no files' || kind === 'freeze';
  const isLate = end.code === 'timeout' || (end.code === 'incomplete' && end.message.includes('TIMED_OUT'));
  return kind === 'freeze' && isLate;
}

const ENDS_COPIES: ReadonlySet<FaultKind> = new Set(['chassis kill', 'chassis freeze', 'shard damaged', 'shard gone']);
/** Calls are refused for this time after the second death, and longer after more of them. */
const POISON_MS = 120_000;

/**
 * The fault as a faceplate notices it: one that is frozen meanwhile finds out when it wakes up, and may send calls
 * before that.
 */
export function noticed(fault: Fault, faults: readonly Fault[], faceplate: string): Fault {
  const sleeps = faults.filter(
    ({ kind, target, fromMs, untilMs }) =>
      kind === 'freeze' && target === faceplate && fromMs <= fault.untilMs && untilMs >= fault.fromMs,
  );
  return { ...fault, untilMs: Math.max(fault.untilMs, ...sleeps.map(({ untilMs }) => untilMs)) };
}

type FailedCall = Pick<CallRecord, 'end' | 'faceplate' | 'sentAtMs' | 'settledAtMs' | 'method'>;

/** Thrift has no field for error codes, and the callers do not know the text of a broken link. */
function isBroken(code: string): boolean {
  return code === 'resource_failed' || code === 'another';
}

/** Time until every process connected to a dead one has noticed. It is immediate unless the machine is busy. */
const NOTICED_MS = 2_000;
/** After a cut, the first retransmission may be late. */
const CUT_NOTICED_MS = 3_000;
