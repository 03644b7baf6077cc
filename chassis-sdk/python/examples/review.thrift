/**
 * Review rates a change. It calls Differ through the mesh, and logs remarks.
 */
include "differ.thrift"

namespace py review

struct Verdict {
  /** As `diff -u` prints it. */
  1: string changes
  /** Lines added and lines removed. */
  2: i32 added
  3: i32 removed
  /** The verdict in words. */
  4: string words
}

/** There is nothing to review. */
exception NothingChanged {
  1: string name
}

service Review {
  Verdict review(1: differ.Text before, 2: differ.Text after) throws (1: NothingChanged nothing) (katamari.timeout = "5s", katamari.readonly = "true")

  /** Logs a remark. Oneway: the caller does not wait. */
  oneway void remark(1: string words)
}
