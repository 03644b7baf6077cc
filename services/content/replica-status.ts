// What a replica says of itself.

export type ReplicaState = 'fetching' | 'opening' | 'serving' | 'leaving' | 'backing_off';

export interface ReplicaStatus {
  /** `index@version/shard` */
  readonly name: string;
  readonly state: ReplicaState;
  readonly bytes: number;
  readonly bytesDone: number;
  readonly entries: number;
  /** Why it is not served; '' while nothing is wrong. */
  readonly why: string;
  /** Failures since it was served last. */
  readonly tries: number;
  /** Time until the next try, in ms; 0 when none waits. */
  readonly nextTryInMs: number;
}
