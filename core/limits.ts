// Limits on input from clients, with their defaults. Configuration keys: `limits.*`.

/** Limits that every faceplate applies to its clients. */
export interface FaceplateLimits {
  /** Bytes of one message or request body. */
  readonly frameBytesMax: number;
  /** Depth of nested containers and structs in a value. */
  readonly nestingMax: number;
  /** Calls of one JSON-RPC batch. */
  readonly batchMax: number;
  /** Open connections of one faceplate. */
  readonly connectionsMax: number;
  /** An idle connection is closed after this time. */
  readonly idleMs: number;
  /** Time from the first byte of a request to its last. Guards against slow senders. */
  readonly requestMs: number;
  /** Calls in flight on one connection. At the limit the server stops reading from the socket (backpressure). */
  readonly pipelineMax: number;
  /** Headers of one request. */
  readonly headersMax: number;
}

/** The limits that apply when the configuration sets none. */
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
