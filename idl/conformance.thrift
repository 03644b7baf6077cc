/**
 * A service whose handlers do as they are told, so that `katamari conform` can see how a chassis treats them. The
 * authors of a kit implement it in a test fixture of theirs: each method in a line or two. Nothing in it needs more
 * than a Thrift library of 2020 (no uuid).
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

/** Every kind of type that all of Thrift's languages have. */
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

/** A value that cannot be without its text. */
struct Demand {
  1: required string text
}

exception Declared {
  1: string why
  2: i32 number
}

/** What a handler can know of the call that it works on. */
struct ContextReport {
  /** Time left, in ms; 0 or less when it is over. */
  1: i64 timeLeftMs
  2: string caller
  3: string traceparent
  4: string tracestate
  /** Sticky key. */
  5: string key
  6: i32 attempt
  7: map<string, string> headers
}

service Conformance {
  /** The same value. */
  Everything echo(1: Everything value) (katamari.readonly = "true")

  /** The same bytes. */
  binary echoBinary(1: binary value) (katamari.readonly = "true")

  /** The same text. */
  string echoText(1: string value) (katamari.readonly = "true")

  /** The text of the demand. */
  string demand(1: Demand value) (katamari.readonly = "true")

  /** Does nothing. */
  void nothing() (katamari.readonly = "true")

  /** Throws Declared with these fields. */
  i32 refuse(1: string why, 2: i32 number) throws (1: Declared declared)

  /** Throws something that is not declared, with this message. */
  string collapse(1: string why)

  /** Is busy (asleep, if you like) for so many milliseconds; answers with their number. */
  i32 work(1: i32 ms)

  /** Keeps the line in memory. */
  oneway void note(1: string line)

  /** All lines that this process was given to keep, oldest first. */
  list<string> noted() (katamari.readonly = "true")

  /** What the context of this very call says; absent parts are '', 0 and empty. */
  ContextReport report() (katamari.readonly = "true")

  /**
   * Calls `echoText(value)` of the service `Conformance` through the mesh, within the time left, and answers with
   * what came.
   */
  string relay(1: string value)

  /** Asks to be replaced after this answer. A kit that does not offer it throws something. */
  void retire()
}
