// Runs one health check: a TTL check, or a TCP or HTTP check at an interval, and reports each result. Output texts
// are those of Consul. A check costs one timer, and one socket while it runs.

import { request as httpRequest, type IncomingMessage } from 'node:http';
import { parseAddress, type Clock } from '../../core/mod.ts';
import type { CheckStatus } from './catalog-table.ts';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';

/** Parameters of a check. At most one of ttl, tcp and http is set; none for maintenance. */
export interface CheckPlan {
  readonly ttlMs?: number;
  /** HOST:PORT */
  readonly tcp?: string;
  readonly http?: {
    readonly url: string;
    readonly method: string;
    readonly headers: Readonly<Record<string, readonly string[]>>;
    readonly body: string;
    readonly skipsTlsVerification: boolean;
  };
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

export type CheckReport = (status: CheckStatus, output: string) => void;

/** Longest pause before the first run of a check, and after a run of a TCP check that did not pass, in ms. */
const SOON_MS = 1_000;
/** Limit of the output that is kept of an HTTP response. */
const OUTPUT_BYTES_MAX = 4096;

/** A running check. */
export interface CheckRun {
  /** The client reported the status of a TTL check; the TTL starts again. */
  beat(output: string): void;
  stop(): void;
}

export function runCheck(plan: CheckPlan, clock: Clock, random: () => number, report: CheckReport): CheckRun {
  if (plan.ttlMs !== undefined) return runTtl(plan.ttlMs, clock, report);
  if (plan.tcp === undefined && plan.http === undefined) return { beat() {}, stop() {} };
  return runAtInterval(plan, clock, random, report);
}

function runTtl(ttlMs: number, clock: Clock, report: CheckReport): CheckRun {
  let lastOutput = '';
  const expire = (): void => {
    report(
      'critical',
      lastOutput === '' ? 'TTL expired' : `TTL expired (last output before timeout follows): ${lastOutput}`,
    );
  };
  let takeBack = clock.after(ttlMs, expire);
  return {
    beat(output) {
      lastOutput = output;
      takeBack();
      takeBack = clock.after(ttlMs, expire);
    },
    stop: () => takeBack(),
  };
}

function runAtInterval(plan: CheckPlan, clock: Clock, random: () => number, report: CheckReport): CheckRun {
  const end = new AbortController();
  const look = async (): Promise<void> => {
    const [status, output] =
      plan.tcp === undefined
        ? await askHttp(plan, clock, end.signal)
        : await dialTcp(plan.tcp, plan.timeoutMs, clock, end.signal);
    if (end.signal.aborted) return;
    report(status, output);
    takeBack = clock.after(status === 'passing' || plan.tcp === undefined ? plan.intervalMs : soonMs, begin);
  };
  const begin = (): void => void look();
  // The first run, which may follow a failure before a restart, and those of a TCP check that fails do not wait for a
  // long interval: the session of a process waits for its check to pass.
  const soonMs = Math.min(plan.intervalMs, SOON_MS);
  // At a random time, so that checks do not run in step.
  let takeBack = clock.after(soonMs * random(), begin);
  return {
    beat() {},
    stop() {
      end.abort();
      takeBack();
    },
  };
}

type Look = [CheckStatus, string];

function dialTcp(address: string, timeoutMs: number, clock: Clock, signal: AbortSignal): Promise<Look> {
  const parsed = parseAddress(address);
  if (parsed === undefined) {
    const missing = address.startsWith('[') && !address.includes(']') ? "']'" : 'port';
    return Promise.resolve(['critical', `dial tcp: address ${address}: missing ${missing} in address`]);
  }
  return new Promise((resolve) => {
    const socket = connect(parsed);
    const end = (look: Look): void => {
      stopTimer();
      signal.removeEventListener('abort', abort);
      socket.destroy();
      resolve(look);
    };
    const abort = (): void => end(['critical', '']);
    const stopTimer = clock.after(timeoutMs, () => end(['critical', `dial tcp ${address}: i/o timeout`]));
    signal.addEventListener('abort', abort, { once: true });
    socket.once('connect', () => end(['passing', `TCP connect ${address}: Success`]));
    socket.on('error', (error) => end(['critical', `dial tcp ${address}: ${reason(error)}`]));
  });
}

function askHttp(plan: CheckPlan, clock: Clock, signal: AbortSignal): Promise<Look> {
  const { url, method, headers, body, skipsTlsVerification } = plan.http!;
  // The clock takes every timeout, AbortSignal.timeout whole numbers below 2^32 only.
  const late = new AbortController();
  const stopTimer = clock.after(plan.timeoutMs, () => late.abort());
  const asked = new Promise<Look>((resolve) => {
    const verb = `${method.slice(0, 1)}${method.slice(1).toLowerCase()}`;
    const fail = (why: string): void => resolve(['critical', `${verb} ${JSON.stringify(url)}: ${why}`]);
    let request;
    try {
      const send = url.startsWith('https:') ? httpsRequest : httpRequest;
      request = send(url, {
        method,
        agent: false,
        headers: { 'User-Agent': 'Consul Health Check', Accept: 'text/plain, text/*, */*', ...flatten(headers) },
        rejectUnauthorized: !skipsTlsVerification,
        signal: AbortSignal.any([signal, late.signal]),
      });
    } catch (error) {
      fail(reason(error));
      return;
    }
    request.on('error', (error) => fail(error.name === 'AbortError' ? 'context deadline exceeded' : reason(error)));
    let isAnswered = false;
    // The answer to CONNECT, or one that upgrades the connection, is no response: the request only closes.
    request.on('close', () => {
      if (!isAnswered) fail('EOF');
    });
    request.on('response', (response) => {
      isAnswered = true;
      void readStart(response).then((text) => {
        const code = response.statusCode ?? 0;
        const status = code >= 200 && code <= 299 ? 'passing' : code === 429 ? 'warning' : 'critical';
        resolve([status, `HTTP ${method} ${url}: ${code} ${response.statusMessage ?? ''} Output: ${text}`]);
      });
    });
    request.end(body);
  });
  return asked.finally(stopTimer);
}

/** Reads the first bytes of a response; the rest is discarded. */
async function readStart(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes >= OUTPUT_BYTES_MAX) break;
    }
  } catch {
    // If the connection breaks, keep what arrived.
  }
  response.destroy();
  return Buffer.concat(chunks).toString('utf8', 0, OUTPUT_BYTES_MAX);
}

function flatten(headers: Readonly<Record<string, readonly string[]>>): Record<string, string[]> {
  return Object.fromEntries(Object.entries(headers).map(([name, values]) => [name, [...values]]));
}

function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ECONNREFUSED') return 'connect: connection refused';
  if (code === 'EHOSTUNREACH') return 'connect: no route to host';
  return message;
}
