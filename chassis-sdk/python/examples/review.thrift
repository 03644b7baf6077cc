/**
 * Review: what to think of a change. It asks Differ, through the mesh, and keeps what people say about it.
 */
include "differ.thrift"

namespace py review

struct Verdict {
  /** As `diff -u` prints it. */
  1: string changes
  /** Lines that came, and lines that went. */
  2: i32 added
  3: i32 removed
  /** For people. */
  4: string words
}

/** There is nothing to review. */
exception NothingChanged {
  1: string name
}

service Review {
  Verdict review(1: differ.Text before, 2: differ.Text after) throws (1: NothingChanged nothing) (katamari.timeout = "5s", katamari.readonly = "true")

  /** Nobody waits for this one. */
  oneway void remark(1: string words)
}
