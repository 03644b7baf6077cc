// Identities that arrive in contexts of calls. Equal ones become one object, so that a call costs no new object and a
// queue can compare callers by identity.

import { ANONYMOUS, identityOf, type CallerIdentity } from '../rpc/mod.ts';

type SentProof = 'mtls' | 'token' | 'jwt' | 'chassis' | 'mesh';

/** Whether a context carries this identity: that of a caller that proved nothing is left out. */
export function isSent({ how }: CallerIdentity): boolean {
  return how !== 'anonymous' && how !== 'unauthenticated';
}

/** Returns the identity with this content; an unknown proof, which a newer peer may send, gives the anonymous one. */
export function knownIdentity(name: string, roles: readonly string[], how: string): CallerIdentity {
  if (!isProof(how)) return ANONYMOUS;
  const table = roles.length === 0 ? plain : withRoles;
  const key = roles.length === 0 ? name : JSON.stringify([name, how, roles]);
  const known = table.get(key);
  if (known?.how === how) return known;
  if (table.size >= KNOWN_MAX) table.clear();
  const identity = identityOf(name, how, roles);
  table.set(key, identity);
  return identity;
}

function isProof(how: string): how is SentProof {
  return how === 'mtls' || how === 'token' || how === 'jwt' || how === 'chassis' || how === 'mesh';
}

/** Identities without roles, by name: the usual ones, found without a new string. */
const plain = new Map<string, CallerIdentity>();
const withRoles = new Map<string, CallerIdentity>();
/** Identities that each table keeps. A full table is emptied. */
const KNOWN_MAX = 10_000;
