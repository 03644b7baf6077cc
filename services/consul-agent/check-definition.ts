// Parses a check definition of the API into a plan, with the rules and error texts of Consul.

import type { CheckPlan } from './checks.ts';
import { Refusal, type Decoded, type Fields } from './go-compat.ts';

/**
 * Fields of a check, registered alone or with a service. Field names of later versions are accepted, so that newer
 * clients can register.
 */
export const CHECK_FIELDS: Fields = {
  ID: 'string',
  CheckID: 'string',
  Name: 'string',
  Notes: 'string',
  Status: 'string',
  ServiceID: 'string',
  Token: 'string',
  Namespace: 'string',
  TTL: 'duration',
  TCP: 'string',
  HTTP: 'string',
  Method: 'string',
  Header: 'any',
  Body: 'string',
  TLSSkipVerify: 'bool',
  Interval: 'duration',
  Timeout: 'duration',
  DeregisterCriticalServiceAfter: 'duration',
  Args: 'strings',
  ScriptArgs: 'strings',
  Script: 'string',
  Shell: 'string',
  DockerContainerID: 'string',
  GRPC: 'string',
  GRPCUseTLS: 'bool',
  AliasNode: 'string',
  AliasService: 'string',
  OutputMaxSize: 'int',
  SuccessBeforePassing: 'int',
  FailuresBeforeCritical: 'int',
  FailuresBeforeWarning: 'int',
  TLSServerName: 'string',
  TCPUseTLS: 'bool',
  DisableRedirects: 'bool',
  H2Ping: 'string',
  H2PingUseTLS: 'bool',
  UDP: 'string',
};

const INTERVAL_MIN_MS = 1_000;
const TIMEOUT_DEFAULT_MS = 10_000;

/** Parses a check. @throws Refusal if the definition is invalid or this agent does not support it */
export function checkPlanOf(
  item: Decoded,
  deregisterAfterMinMs: number,
): { plan: CheckPlan; Type: string; deregisterAfterMs: number } {
  if (item.has('Args') || item.has('ScriptArgs') || item.has('Script') || item.has('DockerContainerID')) {
    throw new Refusal(
      500,
      "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
    );
  }
  for (const name of ['GRPC', 'AliasNode', 'AliasService', 'H2Ping', 'UDP']) {
    if (item.string(name) !== '')
      throw new Refusal(400, `Invalid check: the embedded agent has TTL, TCP and HTTP checks, not ${name}`);
  }
  const intervalNs = item.number('Interval');
  const ttlNs = item.number('TTL');
  const tcp = item.string('TCP');
  const http = item.string('HTTP');
  const hasInterval = tcp !== '' || http !== '';
  if (intervalNs > 0 && ttlNs > 0) throw new Refusal(400, 'Invalid check: Interval and TTL cannot both be specified');
  if (hasInterval && intervalNs <= 0)
    throw new Refusal(400, 'Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks');
  if (!hasInterval && ttlNs <= 0) throw new Refusal(400, 'Invalid check: TTL must be > 0 for TTL checks');
  const timeoutNs = item.number('Timeout');
  const times = {
    intervalMs: Math.max(intervalNs / 1e6, hasInterval ? INTERVAL_MIN_MS : 0),
    timeoutMs: timeoutNs > 0 ? timeoutNs / 1e6 : TIMEOUT_DEFAULT_MS,
  };
  const afterMs = item.number('DeregisterCriticalServiceAfter') / 1e6;
  const deregisterAfterMs = afterMs > 0 ? Math.max(afterMs, deregisterAfterMinMs) : 0;
  if (http !== '') {
    const plan = {
      http: {
        url: http,
        method: item.string('Method') || 'GET',
        headers: headersOf(item.any('Header')),
        body: item.string('Body'),
        skipsTlsVerification: item.bool('TLSSkipVerify'),
      },
      ...times,
    };
    return { plan, Type: 'http', deregisterAfterMs };
  }
  if (tcp !== '') return { plan: { tcp, ...times }, Type: 'tcp', deregisterAfterMs };
  return { plan: { ttlMs: ttlNs / 1e6, ...times }, Type: 'ttl', deregisterAfterMs };
}

function headersOf(raw: unknown): Record<string, string[]> {
  if (raw === undefined) return {};
  const wrong = new Refusal(
    400,
    'Request decode failed: json: cannot unmarshal into Go struct field .Header of type map[string][]string',
  );
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) throw wrong;
  const headers = Object.entries(raw) as [string, unknown][];
  if (headers.some(([, values]) => !Array.isArray(values) || values.some((value) => typeof value !== 'string')))
    throw wrong;
  return Object.fromEntries(headers) as Record<string, string[]>;
}
