/**
 * What generated code can look like: inherited methods, ids out of order, required fields deep inside, recursive
 * types.
 */
namespace py kit

struct Strict {
  1: required string text
}

struct Tree {
  1: optional list<Tree> children
  2: optional map<string, Strict> leaves
}

struct Lax {
  1: i32 number
}

exception Refused {
  1: string why
}

service Base {
  string inherited(1: string word)
}

service Kit extends Base {
  /** The ids are not in the order of the arguments. */
  string pair(2: string first, 1: string second)
  i32 count(1: Tree tree, 2: Lax lax)
  i32 number(1: string what) throws (1: Refused refused)
  void refuse(1: string why) throws (1: Refused refused)
  oneway void seen(1: string word)
}
