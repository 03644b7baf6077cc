/**
 * A tour of what a chassis in C++ can do: one method for each of it.
 */
include "copy.thrift"

namespace cpp tour

/** A number cannot be divided by zero. */
exception DivisionByZero {
  1: i32 dividend
}

/** What a handler knows of the call it works on. */
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

  /** Throws an exception that is declared: an answer like any other. */
  i32 divide(1: i32 dividend, 2: i32 divisor) throws (1: DivisionByZero ouch) (katamari.readonly = "true")

  /** Throws one that is not: the caller gets its message, and the process stays up. */
  void fail(1: string why)

  /** Nobody waits for this one. It goes to the log. */
  oneway void note(1: string text)

  CallFacts facts()

  /**
   * Adds by calling `add`, through the mesh, of the copies of a version ("" for any), each call with a part of the
   * time that is left.
   */
  i32 sum(1: list<i32> numbers, 2: string version)

  /** Works for so long, or until nobody waits any more: then it is false. */
  bool work(1: i32 ms)

  /** Answers, then ends, and is replaced. */
  string lastWords()
}
