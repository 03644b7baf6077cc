// Sends random inputs along all lanes of a target at once. Input number i of a lane depends only on the seed, the name
// of the lane and i, so a harmful one can be repeated alone. The fuzzer does not judge replies; the target's own check
// does so afterwards.

import { Random } from '../kit/tools/random.ts';
import type { FuzzTarget, Lane, Turn, Turns } from './target.ts';

export interface FuzzOptions {
  readonly seed: number;
  /** In all lanes together; each gets an equal share. */
  readonly inputs: number;
  /** The run is cut into so many parts of equal size. */
  readonly windows: number;
  /** Called after each window, when no input is in flight. */
  readonly onWindow?: (window: number) => Promise<void>;
  readonly onProgress?: (done: number) => void;
  /** Plays only this input. */
  readonly only?: { readonly lane: string; readonly number: number };
}

export interface FuzzReport {
  readonly inputs: number;
  readonly byLane: ReadonlyMap<string, LaneReport>;
}

export interface LaneReport {
  inputs: number;
  connections: number;
  /** Received bytes. */
  answeredBytes: number;
  /** Time in which the lane had input to send, in s. */
  seconds: number;
}

/** @throws Error with the last inputs, when a lane fails */
export async function fuzz(target: FuzzTarget, options: FuzzOptions): Promise<FuzzReport> {
  const { seed, inputs, windows, only } = options;
  const lanes = target.lanes.filter(({ name }) => only === undefined || name === only.lane);
  if (lanes.length === 0) throw new Error(`No lane ${only?.lane}: ${target.lanes.map(({ name }) => name).join(', ')}`);
  const recent: string[] = [];
  let done = 0;
  const players = lanes.map((lane) => {
    const turns = new LaneTurns(seed, lane.name, {
      onTurn: () => ++done % PROGRESS_EVERY === 0 && options.onProgress?.(done),
      remember: (text) => {
        recent.push(text);
        if (recent.length > RECENT_MAX) recent.shift();
      },
    });
    if (only !== undefined) turns.skipTo(only.number);
    return { lane, turns };
  });
  for (let window = 1; window <= windows; window++) {
    const share = (all: number): number => Math.ceil((all * window) / windows);
    const end = only === undefined ? share(Math.ceil(inputs / lanes.length)) : only.number + 1;
    try {
      await Promise.all(players.map(({ lane, turns }) => play(lane, turns, end)));
    } catch (error) {
      throw new Error(`${(error as Error).message}\nThe last inputs of seed ${seed}:\n${recent.join('\n')}`, {
        cause: error,
      });
    }
    await options.onWindow?.(window);
  }
  return { inputs: done, byLane: new Map(players.map(({ lane, turns }) => [lane.name, turns.report])) };
}

async function play(lane: Lane, turns: LaneTurns, end: number): Promise<void> {
  turns.end = end;
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: lane.width }, () => lane.work(turns)));
  turns.report.seconds += (performance.now() - startedAt) / 1_000;
}

class LaneTurns implements Turns {
  readonly report: LaneReport = { inputs: 0, connections: 0, answeredBytes: 0, seconds: 0 };
  readonly #seed: number;
  readonly #lane: string;
  readonly #hooks: { readonly onTurn: () => void; readonly remember: (text: string) => void };
  /** Number of the first input of the next window. */
  end = 0;
  #next = 0;

  constructor(seed: number, lane: string, hooks: { onTurn: () => void; remember: (text: string) => void }) {
    this.#lane = lane;
    this.#hooks = hooks;
    this.#seed = Buffer.from(lane).reduce((sum, byte) => Math.imul(sum, 31) + byte, seed);
  }

  skipTo(number: number): void {
    this.#next = number;
  }

  next(): Turn | undefined {
    if (this.#next >= this.end) return undefined;
    const number = this.#next++;
    this.report.inputs++;
    this.#hooks.onTurn();
    return { number, random: new Random(this.#seed + Math.imul(number, 0x9e3779b1)) };
  }

  sends({ number }: Turn, what: string): void {
    this.#hooks.remember(`${this.#lane}:${number} ${what}`);
  }

  heard(bytes: number): void {
    this.report.answeredBytes += bytes;
  }

  opened(): void {
    this.report.connections++;
  }
}

const PROGRESS_EVERY = 5_000;
/** Inputs that the report of a failure names: about twice those that are in flight. */
const RECENT_MAX = 600;
