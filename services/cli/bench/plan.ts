// Validates the command line of `katamari bench`. A plan always has a rate or a number of callers, an end, and a
// limit of calls in flight.

import { parseDuration } from '../../../core/mod.ts';
import { ExitError, EXIT } from '../../config/mod.ts';
import { parseTarget, type CallTarget } from '../commands/call.ts';
import type { ClientOptions } from '../kit/context.ts';

export interface BenchOptions extends ClientOptions {
  readonly rate?: string | undefined;
  readonly concurrency?: string | undefined;
  readonly inFlightMax?: string | undefined;
  readonly connections?: string | undefined;
  readonly seconds?: string | undefined;
  readonly warmUp?: string | undefined;
  readonly timeout?: string | undefined;
  readonly version?: string | undefined;
  readonly compare?: string | undefined;
  readonly key?: string | undefined;
  readonly tags?: string | undefined;
  readonly from?: string | undefined;
  readonly thrift?: string | undefined;
  readonly maxErrors?: string | undefined;
  readonly p99?: string | undefined;
  readonly json?: boolean | undefined;
}

export type Load =
  | { readonly kind: 'open'; readonly ratePerS: number; readonly inFlightMax: number }
  | { readonly kind: 'closed'; readonly concurrency: number };

export interface Checks {
  /** Share of the calls that may fail, 0 to 1. */
  readonly errorsMax: number | undefined;
  readonly p99Ms: number | undefined;
}

export interface BenchPlan {
  readonly service: string;
  /** '' if none is given. */
  readonly method: string;
  /** One version ('' lets the route choose), or two to compare. */
  readonly versions: readonly string[];
  readonly load: Load;
  readonly connections: number;
  /** Measured time for each version. */
  readonly seconds: number;
  /** Warm-up before each round. */
  readonly warmUpSeconds: number;
  /** Number of rounds for each version of a comparison. */
  readonly rounds: number;
  readonly timeoutMs: number | undefined;
  readonly key: string;
  readonly tags: string;
  readonly checks: Checks;
}

/**
 * Schedule of an open loop: `callsPerBunch` calls every `ticksPerBunch` ticks. Each call has its own tick, up to the
 * tick rate that a busy machine can keep; above that rate several calls share a tick. At a low rate some ticks have
 * no call.
 */
export interface Pace {
  readonly periodMs: number;
  readonly callsPerBunch: number;
  readonly ticksPerBunch: number;
}

/** Returns the schedule of a load. A closed loop only needs ticks to notice the end of the round. */
export function paceOf(load: Load): Pace {
  if (load.kind === 'closed') return { periodMs: TICK_MS_MAX, callsPerBunch: 0, ticksPerBunch: 1 };
  const callsPerBunch = Math.ceil((load.ratePerS * TICK_MS_MIN) / 1_000);
  const bunchMs = (callsPerBunch * 1_000) / load.ratePerS;
  const ticksPerBunch = Math.ceil(bunchMs / TICK_MS_MAX);
  return { periodMs: bunchMs / ticksPerBunch, callsPerBunch, ticksPerBunch };
}

/** @throws ExitError usage */
export function readPlan(targetText: string, options: BenchOptions): BenchPlan {
  const target = parseTarget(targetText);
  const versions = readVersions(target, options);
  const load = readLoad(options);
  return {
    service: target.service,
    method: target.method,
    versions,
    load,
    connections: readConnections(options.connections, load),
    seconds: readNumber('--seconds', options.seconds ?? '10', 0.1, SECONDS_MAX),
    warmUpSeconds: readNumber('--warm-up', options.warmUp ?? '1', 0, SECONDS_MAX),
    rounds: versions.length === 1 ? 1 : COMPARE_ROUNDS,
    timeoutMs: options.timeout === undefined ? undefined : readDuration('--timeout', options.timeout),
    key: options.key ?? '',
    tags: options.tags ?? '',
    checks: {
      errorsMax: options.maxErrors === undefined ? undefined : readShare('--max-errors', options.maxErrors),
      p99Ms: options.p99 === undefined ? undefined : readDuration('--p99', options.p99),
    },
  };
}

function readVersions(target: CallTarget, { version, compare }: BenchOptions): readonly string[] {
  const given = [target.version, version ?? ''].filter((one) => one !== '');
  if (compare === undefined) {
    if (given.length === 2 && given[0] !== given[1])
      throw new ExitError(
        EXIT.usage,
        `found version "${given[0]}" in the method and --version "${given[1]}", expected one`,
      );
    return [given[0] ?? ''];
  }
  if (given.length > 0)
    throw new ExitError(
      EXIT.usage,
      `found version "${given[0]}" with --compare, expected the versions in --compare only`,
    );
  const versions = compare.split(',').map((one) => one.trim());
  if (versions.length === 2 && versions.every((one) => one !== '') && versions[0] !== versions[1]) return versions;
  throw new ExitError(
    EXIT.usage,
    `--compare: found ${JSON.stringify(compare)}, expected two different versions such as 1.0.0,2.0.0`,
  );
}

function readLoad({ rate, concurrency, inFlightMax }: BenchOptions): Load {
  if (rate === undefined) {
    if (inFlightMax !== undefined)
      throw new ExitError(
        EXIT.usage,
        '--in-flight-max needs --rate: with --concurrency each caller waits for its reply',
      );
    return { kind: 'closed', concurrency: readWhole('--concurrency', concurrency ?? '16', IN_FLIGHT_LIMIT) };
  }
  if (concurrency !== undefined) {
    throw new ExitError(
      EXIT.usage,
      'found --rate and --concurrency, expected one: --rate sends calls at fixed times (--in-flight-max limits the calls in flight); with --concurrency each caller waits for its reply',
    );
  }
  if (!(Number(rate) >= RATE_MIN && Number(rate) <= RATE_MAX)) {
    throw new ExitError(
      EXIT.usage,
      `--rate: found ${JSON.stringify(rate)}, expected calls per second, ${RATE_MIN} to ${RATE_MAX}; for the maximum rate use --concurrency N`,
    );
  }
  const most = inFlightMax ?? String(IN_FLIGHT_DEFAULT);
  return { kind: 'open', ratePerS: Number(rate), inFlightMax: readWhole('--in-flight-max', most, IN_FLIGHT_LIMIT) };
}

/**
 * Default number of connections: one for each caller of a closed loop; for an open loop enough that an idle one is
 * likely.
 */
function readConnections(text: string | undefined, load: Load): number {
  const most = load.kind === 'open' ? load.inFlightMax : load.concurrency;
  if (text === undefined) return Math.min(most, load.kind === 'open' ? OPEN_CONNECTIONS : CONNECTIONS_DEFAULT_MAX);
  const count = readWhole('--connections', text, CONNECTIONS_MAX);
  if (count <= most) return count;
  const limit = load.kind === 'open' ? '--in-flight-max' : '--concurrency';
  throw new ExitError(
    EXIT.usage,
    `--connections: found ${count}, expected at most ${most}, the maximum of calls in flight (${limit})`,
  );
}

function readNumber(option: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text.trim() !== '' && value >= least && value <= most) return value;
  throw new ExitError(EXIT.usage, `${option}: found ${JSON.stringify(text)}, expected seconds, ${least} to ${most}`);
}

function readWhole(option: string, text: string, most: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= most) return value;
  throw new ExitError(EXIT.usage, `${option}: found ${JSON.stringify(text)}, expected a whole number, 1 to ${most}`);
}

function readDuration(option: string, text: string): number {
  const parsed = parseDuration(text);
  if (parsed.ok && parsed.value > 0) return parsed.value;
  throw new ExitError(
    EXIT.usage,
    `${option}: found ${JSON.stringify(text)}, expected ${parsed.ok ? 'a duration above 0' : parsed.expected}`,
  );
}

function readShare(option: string, text: string): number {
  const [, percent] = /^(\d+(?:\.\d+)?)\s?%$/.exec(text === '0' ? '0%' : text) ?? [];
  if (percent !== undefined && Number(percent) <= 100) return Number(percent) / 100;
  throw new ExitError(EXIT.usage, `${option}: found ${JSON.stringify(text)}, expected a share such as "1%" or "0.1%"`);
}

/** With fewer rounds, the noise of the machine hides the difference between the versions. */
const COMPARE_ROUNDS = 4;
const TICK_MS_MIN = 0.5;
const TICK_MS_MAX = 20;
const SECONDS_MAX = 86_400;
const RATE_MIN = 0.1;
const RATE_MAX = 1_000_000;
const IN_FLIGHT_DEFAULT = 1_024;
const IN_FLIGHT_LIMIT = 100_000;
const OPEN_CONNECTIONS = 64;
const CONNECTIONS_DEFAULT_MAX = 256;
const CONNECTIONS_MAX = 20_000;
