/**
 * Values and exceptions of the Probe, included by its interface.
 */
namespace rb probe

enum Level {
  LOW = 1
  HIGH = 5
}

struct Tree {
  1: i32 value
  2: list<Tree> children
}

union Choice {
  1: string text
  2: binary bytes
  3: list<i16> numbers
}

struct Everything {
  1: bool flag
  2: i8 tiny
  3: i16 small
  4: i32 normal
  5: i64 big
  6: double real
  7: string text
  8: binary bytes
  9: Level level
  10: list<string> texts
  11: list<binary> blobs
  12: set<i32> numbers
  13: map<string, binary> keyed
  14: Tree tree
  15: optional Choice choice
  16: optional i32 absent
  17: i32 preset = 7
}

exception Refused {
  1: string why
  2: Level level
}

service Base {
  i32 pid()
}
