// What `katamari.hedge` and `katamari.majority` say, and the same texts in routes: when several copies of a service get
// one call.

import type { Majority, Method } from '../thrift/mod.ts';
import { type IdlFile, idlFault, quote } from './fault.ts';

export const HEDGE_EXPECTED = 'a percentile from p50 to p99.9, such as "p95"';
export const MAJORITY_EXPECTED =
  'more than half of 2 to 9 copies, such as "2 of 3", "2 of 3 or fewer" or "2 of 3 versions"';

export const HEDGE: RegExp = /^p[5-9]\d(?:\.\d)?$/;
/** More than half of 2 to 9. */
export const MAJORITY: RegExp =
  /^(?:2 of [23]|3 of [3-5]|4 of [4-7]|5 of [5-9]|6 of [6-9]|7 of [7-9]|8 of [89]|9 of 9)(?: versions)?(?: or fewer)?$/;

/** Reads `p95`. Returns the percentile; undefined for another text. */
export function readHedge(text: string): number | undefined {
  return HEDGE.test(text) ? Number(text.slice(1)) : undefined;
}

/** Reads `2 of 3`, `2 of 3 versions` and both with ` or fewer`; undefined for another text. */
export function readMajority(text: string): Majority | undefined {
  if (!MAJORITY.test(text)) return undefined;
  const [alike = '', , copies = ''] = text.split(' ');
  return {
    alike: Number(alike),
    copies: Number(copies),
    ofVersions: text.includes('versions'),
    orFewer: text.endsWith('or fewer'),
  };
}

export function majorityText({ alike, copies, ofVersions, orFewer }: Majority): string {
  return `${alike} of ${copies}${ofVersions ? ' versions' : ''}${orFewer ? ' or fewer' : ''}`;
}

/** @throws KatamariError bad_request */
export function hedgeOf(file: IdlFile, at: number, value: string): number {
  const percentile = readHedge(value);
  if (percentile !== undefined) return percentile;
  throw idlFault(file, at, `katamari.hedge is ${quote(value)}, write ${HEDGE_EXPECTED}`);
}

/** @throws KatamariError bad_request */
export function majorityOf(file: IdlFile, at: number, value: string): Majority {
  const majority = readMajority(value);
  if (majority !== undefined) return majority;
  throw idlFault(file, at, `katamari.majority is ${quote(value)}, write ${MAJORITY_EXPECTED}`);
}

/** Why several copies must not get a call of a method; '' if they may. */
export function whyNotCopied({ isIdempotent, oneway, gather }: Method): string {
  if (oneway) return 'is oneway, and without an answer there is nothing to choose from';
  if (gather !== undefined) return 'has katamari.gather, and an index asks several replicas itself';
  return isIdempotent ? '' : 'is not idempotent, so it needs katamari.idempotent or katamari.readonly too';
}

/** @throws KatamariError bad_request when the annotations of a method ask for copies that it cannot have */
export function checkCopies(file: IdlFile, at: number, method: Method): void {
  const { hedge, majority, name } = method;
  if (hedge === 0 && majority === undefined) return;
  const annotation = majority === undefined ? 'katamari.hedge' : 'katamari.majority';
  if (hedge > 0 && majority !== undefined)
    throw idlFault(file, at, `${quote(name)} has both katamari.hedge and katamari.majority, keep one of them`);
  const why = whyNotCopied(method);
  if (why !== '') throw idlFault(file, at, `${quote(name)} has ${annotation} and ${why}`);
}
