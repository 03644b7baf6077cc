/**
 * Control messages of a link: handshake, ping, cancel and drain, under the multiplexed name `katamari.Link`. The link
 * server handles them itself. A proof is an HMAC-SHA256 with the secret as key, over a label, the role and both
 * nonces, see core/link/handshake.ts.
 */
namespace * katamari

service Link {
  /**
   * First message of every connection: 32 random bytes. The reply is 32 random bytes of the server, or empty if it
   * requires no secret.
   */
  binary hello(1: binary nonce)
  /**
   * Second message if a secret is required: the proof of the client. The reply is the proof of the server. Until
   * then, the server reads no calls.
   */
  binary prove(1: binary proof)
  /**
   * Health check. The server answers at once, even if calls are in flight. A peer that does not answer is frozen. The
   * result is the time on the monotonic clock of the server, in microseconds. The client derives from it the deadline
   * that a call has on that clock (field 14 of CallContext). A server may return nothing.
   */
  i64 ping()
  /** Cancels the call with this sequence id. It gets no reply. */
  oneway void cancel(1: i32 sequenceId)
  /**
   * Graceful shutdown, sent by the server to the client with sequence id 0. The client must send no further calls on
   * this connection. The server still answers the calls in flight.
   */
  oneway void drain()
}
