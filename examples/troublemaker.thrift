/**
 * Troublemaker: a service whose methods fail in different ways, to show how the mesh recovers. Call one, then look at
 * the status page or at `katamari events`. Harmless methods: echo, pid, sleep, spin, chatter, and bigReply within the
 * limits.
 */
namespace * troublemaker

/** The exception that `throwDeclared` throws. Other methods throw it for an argument outside the limits. */
exception Trouble {
  /** What is wrong with the argument, or the text given to `throwDeclared`. */
  1: string why
  /** The invalid argument, or the argument of `throwDeclared`. */
  2: i32 code
}

/** Crashes, hangs, leaks and other failures on request. */
service Troublemaker {
  /** Returns the same bytes. Shows that a copy works. */
  binary echo(1: binary bytes) (katamari.readonly = "true")

  /** Returns the process id of the copy. Call it before and after other methods to see that copies are replaced. */
  i32 pid() (katamari.readonly = "true")

  /**
   * Crashes with an uncaught exception. The caller gets resource_failed within milliseconds. The events show the
   * stack trace from the last lines on stderr, and a new copy replaces this one.
   */
  void crash()

  /**
   * Exits with this code (0 to 255) without a reply. The caller gets resource_failed. Code 0 counts as a failure too.
   */
  void exit(1: i32 code) throws (1: Trouble trouble)

  /**
   * Loops forever, so that the copy does not answer pings either. The caller gets timeout (stage service) after 2 s.
   * After the grace time the copy is killed and replaced.
   */
  void hang() (katamari.timeout = "2s")

  /**
   * Never replies, but answers pings, so only the deadline detects it. The caller gets timeout after 2 s, and the
   * copy is replaced as with `hang`.
   */
  void hangAsync() (katamari.timeout = "2s")

  /**
   * Waits for this many ms (at most 60,000) with a free event loop. If that is longer than the timeout of the call,
   * the caller gets timeout.
   */
  void sleep(1: i32 ms) throws (1: Trouble trouble) (katamari.idempotent = "true")

  /** Uses one core for this many ms (at most 60,000) and blocks the event loop. Waiting calls show in the queue. */
  void spin(1: i32 ms) throws (1: Trouble trouble) (katamari.idempotent = "true")

  /**
   * Leaks this many megabytes (at most 512) and returns the total. The memory of the copy grows on the status page; a
   * memory limit on the deployment makes the mesh recycle it.
   */
  i32 leak(1: i32 megabytes) throws (1: Trouble trouble)

  /**
   * Writes bytes that are not Thrift to the connection with the resource manager. The caller gets resource_failed,
   * and the mesh replaces the copy.
   */
  void garbage()

  /**
   * Sends a correct reply in 20 pieces over this many ms (at most 60,000), as over a slow network. Within the timeout
   * the call succeeds.
   */
  string slowReply(1: i32 ms) throws (1: Trouble trouble) (katamari.idempotent = "true")

  /**
   * Returns this many megabytes (at most 64) of zeros. Above 16 the reply exceeds the frame limit, and the call
   * fails.
   */
  binary bigReply(1: i32 megabytes) throws (1: Trouble trouble) (katamari.readonly = "true")

  /** Throws an undeclared exception. The caller gets the message without the stack; the copy stays in service. */
  void throwUndeclared(1: string message)

  /** Throws its declared exception, which is a normal reply for the mesh. */
  void throwDeclared(1: string why, 2: i32 code) throws (1: Trouble trouble)

  /**
   * Starts a child process (`sleep 600`) and returns its process id. When the copy is replaced, for example after
   * `exit`, the mesh kills the whole process group, including the child.
   */
  i32 spawnChild()

  /**
   * Writes this many lines (at most 10,000) to stdout and stderr in turn. The log shows them with the name of the
   * copy.
   */
  void chatter(1: i32 lines) throws (1: Trouble trouble)

  /** Returns its process id and asks to be replaced. The copy exits afterwards, and no call is lost. */
  i32 retire()
}
