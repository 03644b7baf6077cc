// The limits on everything that comes from outside, with their defaults. Configuration keys: `limits.*`.

/** Bytes and counts that a faceplate accepts from outside; all of them stand here. */
export interface FaceplateLimits {
  readonly frameBytesMax: number;
  readonly nestingMax: number;
  readonly batchMax: number;
  readonly connectionsMax: number;
  /** A connection on which nothing happens for so long is closed. */
  readonly idleMs: number;
  /** A request that was begun must be complete within this time (slow senders). */
  readonly requestMs: number;
  /** Calls of one connection that may be under way at once; then its socket is not read. */
  readonly pipelineMax: number;
  readonly headersMax: number;
}

export const DEFAULT_LIMITS: FaceplateLimits = {
  frameBytesMax: 16 * 1024 * 1024,
  nestingMax: 64,
  batchMax: 100,
  connectionsMax: 20_000,
  idleMs: 600_000,
  requestMs: 30_000,
  pipelineMax: 256,
  headersMax: 100,
};
