// Limits on input from clients, with their defaults. Configuration keys: `limits.*`.

import type { SumLimits } from './byte-ledger.ts';

/** Limits that every faceplate applies to its clients. Those of SumLimits hold for all ports of a process together. */
export interface FaceplateLimits extends SumLimits {
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

/** Limits of a message, which apply at the edge of the mesh and in every process that reads it. */
export type MessageLimits = Pick<FaceplateLimits, 'frameBytesMax' | 'nestingMax'>;

/**
 * Bytes by which a frame inside the mesh may exceed `frameBytesMax`: room for the context of a call (field 32767),
 * whose largest part is the headers of the client, at most 256 KiB. So a message of exactly the limit at the edge
 * passes every link.
 */
export const CONTEXT_BYTES_MAX: number = 1024 * 1024;

/** Levels that a context needs: the arguments, the context, a map. */
const CONTEXT_NESTING = 3;

/** The limits of the frames of a link. */
export function linkLimitsOf({ frameBytesMax, nestingMax }: MessageLimits): MessageLimits {
  return {
    frameBytesMax: frameBytesMax + CONTEXT_BYTES_MAX,
    nestingMax: Math.max(nestingMax, CONTEXT_NESTING),
  };
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
  connectionBytesMax: 128 * 1024 * 1024,
  callerBytesMax: 512 * 1024 * 1024,
  processBytesMax: 1024 * 1024 * 1024,
};
