// What was done to a cluster, and whether that can be why a call did not get its answer.

import type { CallRecord } from '../cluster/callers.ts';

/**
 * - kill, term, freeze: SIGKILL, SIGTERM, SIGSTOP (and SIGCONT later) to a process. - chassis kill, chassis freeze:
 *   the same to a chassis.
 * - consul kill, consul freeze: to one or all of its servers; consul wipe: all are killed and come back without data.
 * - cut: packets between a faceplate and a manager are lost.
 * - drain: a manager is to run nothing, for a while. - scale: another number of copies. - roll: a rolling restart.
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
  | 'cut'
  | 'drain'
  | 'scale'
  | 'roll';

export interface Fault {
  readonly kind: FaultKind;
  /** Process that it was done to; of chassis their manager, of a cut the manager. */
  readonly target: string;
  /** Name of the chassis. */
  readonly resource: string;
  /** Of a cut, the faceplate. */
  readonly other: string;
  readonly fromMs: number;
  /** Infinity while it lasts. */
  untilMs: number;
}

/**
 * Whether this can be why the call failed. What is planned (term, drain, scale, roll) and whatever is done to masters
 * and Consul may cost no call, so it explains none.
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
      // Idempotent calls are sent again elsewhere.
      return target.startsWith('manager') && isBroken(code) && call.method === 'once' && isAt && overlaps(NOTICED_MS);
    case 'freeze':
      if (target.startsWith('faceplate')) return code === 'timeout' && faceplate === target && overlaps(NOTICED_MS);
      // What waits in it goes on to a chassis when it wakes up, or its time is up.
      return target.startsWith('manager') && (isBroken(code) || code === 'timeout') && isAt && overlaps(timeoutMs);
    case 'chassis kill':
      return (
        isBroken(code) && call.method === 'once' && message.startsWith(`${resource} failed`) && overlaps(NOTICED_MS)
      );
    case 'chassis freeze':
      // It takes one more call, which stays in it until it is killed; the faceplate may give that up before its
      // manager does.
      return (isBroken(code) || code === 'timeout') && (message.includes(resource) || isAt) && overlaps(timeoutMs);
    case 'cut':
      return (isBroken(code) || code === 'timeout') && faceplate === other && isAt && overlaps(CUT_NOTICED_MS);
    case 'term':
    case 'consul kill':
    case 'consul freeze':
    case 'consul wipe':
    case 'drain':
    case 'scale':
    case 'roll':
      return false;
  }
}

type FailedCall = Pick<CallRecord, 'end' | 'faceplate' | 'sentAtMs' | 'settledAtMs' | 'method'>;

/** Thrift has no place for codes; a broken link is told by words that the callers do not know. */
function isBroken(code: string): boolean {
  return code === 'resource_failed' || code === 'another';
}

/** Until the end of a process is known to whoever has a connection to it: at once, on a machine that is not busy. */
const NOTICED_MS = 2_000;
/** After a cut the first thing that is sent again may be late. */
const CUT_NOTICED_MS = 3_000;
