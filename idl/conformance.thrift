/**
 * A service with scripted handlers, through which `katamari conform` tests how a chassis behaves. Authors of an SDK
 * implement it in a test fixture, each method in a line or two. A Thrift library of 2020 is sufficient (no uuid).
 */
namespace * conformance

enum Colour {
  RED = 1
  GREEN = 2
  INFRARED = -700
}

struct Leaf {
  1: string text
  2: i32 number = 7
}

union Either {
  1: i32 number
  2: string text
  3: Leaf leaf
}

/** One field of each kind of type that every Thrift language supports. */
struct Everything {
  1: bool flag
  2: i8 tiny
  3: i16 small
  4: i32 whole
  5: i64 large
  6: double real
  7: string text
  8: binary bytes
  9: Colour colour
  10: Leaf leaf
  11: Either either
  12: list<i32> numbers
  13: set<string> words
  14: map<string, i64> counts
  15: map<i32, list<Leaf>> nested
  16: optional string maybe
  17: string given = "unless told"
  18: list<binary> blobs
}

/** A struct with a required field. */
struct Demand {
  1: required string text
}

exception Declared {
  1: string why
  2: i32 number
}

/** The context of a call, as its handler sees it. */
struct ContextReport {
  /** Remaining time in ms; 0 or less after the deadline. */
  1: i64 timeLeftMs
  2: string caller
  3: string traceparent
  4: string tracestate
  /** Affinity key. */
  5: string key
  6: i32 attempt
  7: map<string, string> headers
}

service Conformance {
  /** Returns the value. */
  Everything echo(1: Everything value) (katamari.readonly = "true")

  /** Returns the bytes. */
  binary echoBinary(1: binary value) (katamari.readonly = "true")

  /** Returns the text. */
  string echoText(1: string value) (katamari.readonly = "true")

  /** Returns the text of the argument. */
  string demand(1: Demand value) (katamari.readonly = "true")

  /** Does nothing. */
  void nothing() (katamari.readonly = "true")

  /** Throws Declared with these fields. */
  i32 refuse(1: string why, 2: i32 number) throws (1: Declared declared)

  /** Throws an undeclared exception with this message. */
  string collapse(1: string why)

  /** Works or sleeps for this many milliseconds, then returns the number. */
  i32 work(1: i32 ms)

  /** Stores the line in memory. */
  oneway void note(1: string line)

  /** Returns all lines that this process has stored, oldest first. */
  list<string> noted() (katamari.readonly = "true")

  /** Returns the context of this call. Absent parts are '', 0 and empty. */
  ContextReport report() (katamari.readonly = "true")

  /**
   * Calls `echoText(value)` of the service `Conformance` through the mesh, within the remaining time, and returns the
   * result.
   */
  string relay(1: string value)

  /** Asks the mesh to replace this chassis after the reply. An SDK without this feature throws an exception. */
  void retire()
}
