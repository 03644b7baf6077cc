/**
 * Control messages of a link: handshake, ping, cancel and drain, under the multiplexed name `katamari.Link`. The link
 * server answers them itself. The proofs are HMAC-SHA256 with the secret as key, over a label, the role and both
 * nonces: see core/link/handshake.ts.
 */
namespace * katamari

service Link {
  /**
   * First message of every connection: 32 random bytes. The reply is 32 random bytes of the server, or empty if it
   * requires no secret.
   */
  binary hello(1: binary nonce)
  /**
   * Second message if a secret is required: the proof of the client. The reply is the proof of the server. The server
   * reads no call before it.
   */
  binary prove(1: binary proof)
  /** Answered at once, whatever calls are in flight. A peer that does not answer is frozen. */
  void ping()
  /** Cancels the call with this sequence id. It gets no reply. */
  oneway void cancel(1: i32 sequenceId)
  /**
   * From the server to the client, with sequence id 0: the client must send no further calls on this connection.
   * Calls in flight are answered.
   */
  oneway void drain()
}
