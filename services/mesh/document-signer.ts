// Signs the documents in Consul that decide what the mesh runs, where calls go and who may make them: deployments,
// indices, assignments, drains, routes, rollouts, settings, access policies and admin tokens. Consul is not trusted:
// whoever may write to it could otherwise run commands on every manager. A process refuses a document that no process
// with the secret of the mesh has written.
//
// The signature is the last line of the value: HMAC-SHA256 over the key and the text before it, with a key derived
// from the link secret. The key of the document is part of it, so a document is valid at its place only; an
// assignment contains its term. Somebody who may write to Consul can still delete a document or put an older one
// back.

import type { DocumentSigner, OpenedDocument } from '../consul/mod.ts';
import { keysOf } from './records.ts';
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

/** @param secrets the secrets of the mesh; the first signs, all are accepted */
export function documentSigner(mesh: string, secrets: () => readonly string[]): DocumentSigner {
  const { settings, ...keys } = keysOf(mesh);
  const { deployments, indices, assignments, drained, routes, routeHistory, rollouts, tokens, policies } = keys;
  const folders = [deployments, indices, assignments, drained, routes, routeHistory, rollouts, tokens, policies];
  const derivedKeys = new Map<string, Buffer>();
  const keyOf = (secret: string): Buffer => {
    const known = derivedKeys.get(secret);
    if (known !== undefined) return known;
    if (derivedKeys.size >= KEYS_MAX) derivedKeys.clear();
    const derived = Buffer.from(hkdfSync('sha256', secret, '', 'katamari documents 1', 32));
    derivedKeys.set(secret, derived);
    return derived;
  };
  const macOf = (secret: string, key: string, text: string): Buffer =>
    createHmac('sha256', keyOf(secret)).update(`${key}\0${text}`).digest();

  return {
    places: [...folders, settings],
    signs: (key) => key === settings || folders.some((folder) => key.startsWith(folder)),
    sign: (key, text) => `${text}${MARK}${macOf(secrets()[0] as string, key, text).toString('base64url')}`,
    open: (key, value): OpenedDocument => {
      const at = value.lastIndexOf(MARK);
      if (at === -1) return { text: '', problem: UNSIGNED, isOutdated: false };
      const text = value.slice(0, at);
      const given = Buffer.from(value.slice(at + MARK.length), 'base64url');
      const by = secrets().findIndex((secret) => {
        const expected = macOf(secret, key, text);
        return given.length === expected.length && timingSafeEqual(given, expected);
      });
      return by === -1 ? { text: '', problem: FORGED, isOutdated: false } : { text, problem: '', isOutdated: by > 0 };
    },
  };
}

/** Limit of a value in Consul, without the bytes of a signature. */
export const DOCUMENT_BYTES_MAX: number = 512 * 1024 - 128;
const MARK = '\nhmac-sha256 ';
const UNSIGNED =
  'it is not signed by a process of this mesh. Change deployments, routes, settings and policies with the katamari command, not in Consul';
const FORGED =
  'its signature does not match: it was changed or copied in Consul, or the process that wrote it has another link.secretFile';
/** Secrets whose keys are kept; more than a rotation needs. */
const KEYS_MAX = 8;
