/**
 * A tour of the C++ library, with one method per feature.
 */
include "copy.thrift"

namespace cpp tour

/** A number cannot be divided by zero. */
exception DivisionByZero {
  1: i32 dividend
}

/** The context of a call. */
struct CallFacts {
  1: string method
  2: string caller
  3: string key
  4: string traceparent
  5: string tracestate
  6: map<string, string> headers
  7: i32 attempt
  8: i64 timeLeftMs
}

service Tour extends copy.Copy {
  i32 add(1: i32 a, 2: i32 b) (katamari.readonly = "true")

  /** Throws a declared exception, which is an ordinary reply. */
  i32 divide(1: i32 dividend, 2: i32 divisor) throws (1: DivisionByZero ouch) (katamari.readonly = "true")

  /** Throws an undeclared exception. The caller gets its message, and the process continues. */
  void fail(1: string why)

  /** Writes a text to the log. Oneway: the caller does not wait. */
  oneway void note(1: string text)

  CallFacts facts()

  /**
   * Adds numbers by calling `add` of other copies through the mesh. `version` selects their version, "" for any. Each
   * call gets half of the remaining time.
   */
  i32 sum(1: list<i32> numbers, 2: string version)

  /** Runs for `ms`. Returns false earlier if the caller no longer waits. */
  bool work(1: i32 ms)

  /** Replies, then exits and is replaced. */
  string lastWords()
}
