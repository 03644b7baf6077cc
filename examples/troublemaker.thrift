/**
 * Troublemaker: a service whose methods misbehave, each in its own way, so that people can watch the mesh heal. Call
 * one, then look at the status page or at `katamari events`. What is harmless here: echo, pid, sleep, spin, chatter,
 * bigReply within the limits.
 */
namespace * troublemaker

/** The exception that `throwDeclared` declares; also says that an argument is outside its limits. */
exception Trouble {
  /** What was wrong with an argument, or what `throwDeclared` was told to say. */
  1: string why
  /** The argument that was wrong, or what `throwDeclared` was told. */
  2: i32 code
}

/** Crashes, hangs, leaks, and worse, on request. */
service Troublemaker {
  /** Answers with the same bytes: shows that a copy is well. */
  binary echo(1: binary bytes) (katamari.readonly = "true")

  /** Process id of the copy that answered: call it before and after the others to see copies being replaced. */
  i32 pid() (katamari.readonly = "true")

  /**
   * Dies of an uncaught exception. The caller gets resource_failed within milliseconds, the events show the stack
   * trace from the copy's last lines on stderr, and a new copy takes its place.
   */
  void crash()

  /**
   * Exits with this code, 0 to 255, without answering. The caller gets resource_failed; even code 0 counts as a
   * failure.
   */
  void exit(1: i32 code) throws (1: Trouble trouble)

  /**
   * Runs in a circle for ever, so that the copy cannot even answer pings. The caller gets timeout (stage service)
   * after 2 s; after the grace time the copy is killed and replaced.
   */
  void hang() (katamari.timeout = "2s")

  /**
   * Never answers, but stays responsive: pings are answered, and only the deadline tells that something is wrong. The
   * caller gets timeout after 2 s, and the copy is replaced as with `hang`.
   */
  void hangAsync() (katamari.timeout = "2s")

  /**
   * Stays away for so many ms (60,000 at most) with the event loop free. Longer than the timeout of the call:
   * timeout.
   */
  void sleep(1: i32 ms) throws (1: Trouble trouble) (katamari.idempotent = "true")

  /**
   * Works for so many ms (60,000 at most) with one core busy and the event loop blocked: calls that wait show in the
   * queue.
   */
  void spin(1: i32 ms) throws (1: Trouble trouble) (katamari.idempotent = "true")

  /**
   * Keeps so many megabytes (512 at most) for ever and tells how many it holds now. Memory of one copy grows on the
   * status page; a memory limit on the deployment makes the mesh recycle it.
   */
  i32 leak(1: i32 megabytes) throws (1: Trouble trouble)

  /**
   * Writes bytes that are not Thrift to the connection with its resource manager. The caller gets resource_failed,
   * and the copy, which can not be trusted any more, is replaced.
   */
  void garbage()

  /**
   * Answers correctly, but the answer drips out of the copy in 20 pieces over so many ms (60,000 at most), as over a
   * bad line. Within the timeout the call succeeds.
   */
  string slowReply(1: i32 ms) throws (1: Trouble trouble) (katamari.idempotent = "true")

  /**
   * Answers with so many megabytes (64 at most) of zeros. Beyond 16 the answer is larger than a frame may be, and the
   * call fails.
   */
  binary bigReply(1: i32 megabytes) throws (1: Trouble trouble) (katamari.readonly = "true")

  /** Throws what the IDL does not declare. The caller gets the message, not the stack; the copy stays in service. */
  void throwUndeclared(1: string message)

  /** Throws its declared exception, an ordinary answer as far as the mesh is concerned. */
  void throwDeclared(1: string why, 2: i32 code) throws (1: Trouble trouble)

  /**
   * Starts a process of its own (`sleep 600`), forgets it, and answers its process id. When the copy is replaced, by
   * `exit` for instance, the whole process group goes: the child is gone too.
   */
  i32 spawnChild()

  /**
   * Writes so many lines (10,000 at most) to stdout and stderr in turn. They appear in the log with the name of the
   * copy before them.
   */
  void chatter(1: i32 lines) throws (1: Trouble trouble)

  /** Answers its process id, and asks to be replaced: the copy exits afterwards, and no call is lost. */
  i32 retire()
}
