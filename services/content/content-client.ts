// Client of `katamari.Content`, the control service of a content server.

import { clipText, type Clock } from '../../core/mod.ts';
import { callControl, contentInterface } from '../../core/rpc/mod.ts';
import type { JoiningChassis } from '../mesh/mod.ts';
import { CLOSE_TIMEOUT_MS, ENTRIES_MAX, WHY_CHARS_MAX } from './limits.ts';

/** What a content server found in a shard. */
export interface ShardFacts {
  readonly entries: number;
  readonly more: Readonly<Record<string, string>>;
}

/** A content server cannot open a shard. */
export class ShardRefusal extends Error {
  override readonly name = 'ShardRefusal';
  /** Whether fetching the files again may help. */
  readonly isDamaged: boolean;

  constructor(why: string, isDamaged: boolean) {
    super(why);
    this.isDamaged = isDamaged;
  }
}

/** Ends a chassis that does not answer in time, because the state of its shards is then unknown. */
export class ContentClient {
  readonly #chassis: Pick<JoiningChassis, 'name' | 'dispatch' | 'fail'>;
  readonly #clock: Clock;
  readonly #openTimeoutMs: number;

  constructor(
    chassis: Pick<JoiningChassis, 'name' | 'dispatch' | 'fail'>,
    { clock, openTimeoutMs }: { readonly clock: Clock; readonly openTimeoutMs: number },
  ) {
    this.#chassis = chassis;
    this.#clock = clock;
    this.#openTimeoutMs = openTimeoutMs;
  }

  /** @throws ShardRefusal when it cannot be opened; KatamariError when the chassis does not answer */
  async open(shard: string, path: string): Promise<ShardFacts> {
    const facts = await this.#call('open', { shard, path }, this.#openTimeoutMs);
    const { entries = 0, more = {} } = facts as Partial<Pick<ShardFacts, 'more'>> & { readonly entries?: unknown };
    if (typeof entries === 'number' && entries >= 0 && entries <= ENTRIES_MAX) return { entries, more };
    // Sums over all shards of an index must stay exact.
    const found = `${this.#chassis.name} says that it has ${String(entries)} entries`;
    throw new ShardRefusal(`${found}, expected 0 to ${ENTRIES_MAX}; mend the content server`, false);
  }

  /** Resolves when no call uses the shard and its files are closed. */
  async close(shard: string): Promise<void> {
    await this.#call('close', { shard }, CLOSE_TIMEOUT_MS);
  }

  async #call(name: string, params: Readonly<Record<string, unknown>>, timeoutMs: number): Promise<unknown> {
    const { name: chassis, fail } = this.#chassis;
    const stopTimer = this.#clock.after(timeoutMs, () => {
      fail(`it did not ${name} shard ${String(params['shard'])} within ${timeoutMs / 1_000} s`);
    });
    const deadlineMs = this.#clock.nowMs() + timeoutMs;
    const what = { service: 'katamari.Content', method: name, deadlineMs };
    const answer = await callControl((call) => this.#chassis.dispatch(call), contentInterface(), what, params).finally(
      stopTimer,
    );
    if (answer.kind === 'result') return answer.value;
    if (answer.kind === 'failed') {
      const message = clipText(answer.message, WHY_CHARS_MAX);
      throw new ShardRefusal(`${chassis} answered: ${message}`, false);
    }
    const { why = 'it gave no reason', isDamaged = false } = answer.fields as { why?: string; isDamaged?: boolean };
    throw new ShardRefusal(`${chassis} refused it: ${clipText(why, WHY_CHARS_MAX)}`, isDamaged);
  }
}
