// Checks of certificates and their keys: those of the ports for clients, of the link and of Consul. An expired one
// stops all clients at the same moment, so the end is told before.

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { formatDuration } from '../../../core/mod.ts';
import type { Config } from '../../config/mod.ts';
import { fail, ok, warn, type Finding } from './finding.ts';
import { modeOf, statOf, strangerOf, userName } from './secrets.ts';

/** @param nowMs Unix time */
export function checkCertificateFiles(config: Config, nowMs: number): Finding[] {
  const { link, consul, thrift, jsonRpc, web, stats } = config;
  const sections = [
    { name: 'thrift.tls', files: thrift.tls },
    { name: 'jsonRpc.tls', files: jsonRpc.tls },
    { name: 'web.tls', files: web.tls },
    { name: 'stats.tls', files: stats.tls },
    { name: 'link', files: link },
    { name: 'consul', files: consul },
  ];
  return sections.flatMap(({ name, files: { certFile, keyFile, caFile } }) => {
    const found = [
      ...(certFile === '' ? [] : [checkCertificate(`${name}.certFile`, certFile, nowMs)]),
      ...(caFile === '' ? [] : [checkCertificate(`${name}.caFile`, caFile, nowMs)]),
      ...(keyFile === '' ? [] : [checkKey(`${name}.keyFile`, keyFile)]),
    ];
    return found;
  });
}

/** A file can have several certificates: a chain, or the old and the new CA. */
function checkCertificate(key: string, file: string, nowMs: number): Finding {
  let certificates: readonly X509Certificate[];
  try {
    certificates = (readFileSync(file, 'utf8').match(PEM) ?? []).map((text) => new X509Certificate(text));
  } catch (error) {
    return fail(key, `${file} cannot be used: ${(error as Error).message}`, `correct ${key}`);
  }
  const renew = `put a new certificate into ${file}; the mesh reads it at once`;
  let next = { endMs: Number.POSITIVE_INFINITY, isSoon: false };
  for (const { validFrom, validTo } of certificates) {
    const [startMs, endMs] = [Date.parse(validFrom), Date.parse(validTo)];
    const end = new Date(endMs).toISOString().slice(0, 10);
    if (endMs <= nowMs) return fail(key, `${file} expired on ${end}: peers refuse it`, renew);
    if (startMs > nowMs) return fail(key, `${file} is not valid before ${validFrom}: peers refuse it`, renew);
    const isSoon = endMs - nowMs < Math.min(SOON_MS, (endMs - startMs) / SOON_SHARE);
    if (endMs < next.endMs) next = { endMs, isSoon };
  }
  if (certificates.length === 0) return fail(key, `${file} has no certificate in PEM`, `correct ${key}`);
  const when = `${file} expires in ${daysOf(next.endMs - nowMs)}`;
  return next.isSoon ? warn(key, `${when}: from then on peers refuse it`, renew) : ok(key, when);
}

/** Whoever has the key can pose as the server, and read calls that it can record. */
function checkKey(key: string, file: string): Finding {
  const stats = statOf(file);
  if (stats === undefined) return fail(key, `${file} does not exist`, `correct ${key}`);
  const stranger = strangerOf(stats);
  if (stranger !== undefined) {
    return fail(key, `${file} belongs to ${stranger}, who can pose as this process`, `chown ${userName()} ${file}`);
  }
  if ((stats.mode & OTHERS) !== 0) {
    const text = `${file} has mode ${modeOf(stats)}: every user of this machine can pose as this process`;
    return fail(key, text, `chmod 600 ${file}, and make a new key and certificate`);
  }
  return ok(key, `${file}, closed to other users`);
}

function daysOf(ms: number): string {
  const days = Math.floor(ms / DAY_MS);
  if (days < 2) return formatDuration(Math.floor(ms / HOUR_MS) * HOUR_MS);
  return `${days} days`;
}

const PEM = /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[^-]*-----END (?:TRUSTED |X509 )?CERTIFICATE-----/g;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Time in which a person can renew a certificate. */
const SOON_MS = 14 * DAY_MS;
/** Certificates that live for days are renewed by programs, late in their life. */
const SOON_SHARE = 4;
const OTHERS = 0o007;
