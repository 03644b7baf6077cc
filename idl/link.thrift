/**
 * What the two ends of a link say to each other beside calls, under the multiplexed name `katamari.Link`. The link
 * server answers it itself. The proofs are HMAC-SHA256 with the secret as key, over a label, the role and both
 * nonces: see core/link/handshake.ts.
 */
namespace * katamari

service Link {
  /**
   * First on every connection: 32 random bytes. Answered with 32 random bytes of the server, or with none when it
   * wants no secret.
   */
  binary hello(1: binary nonce)
  /**
   * Then, when a secret is wanted: the proof of the client. Answered with the proof of the server. No call is read
   * before.
   */
  binary prove(1: binary proof)
  /** Answered at once, whatever is under way: a peer that does not answer is frozen. */
  void ping()
  /** The call with this sequence id is not waited for any more. It is not answered. */
  oneway void cancel(1: i32 sequenceId)
  /** From the server to the client, with sequence id 0: send no further call here; what is under way is answered. */
  oneway void drain()
}
