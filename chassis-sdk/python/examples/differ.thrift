/**
 * Differ: what has changed between two texts, and which of many words is most like one. The work is done by difflib
 * of Python's own library.
 */
namespace py differ

struct Text {
  1: string name
  2: string content
}

/** None of the words is like it. */
exception NothingLikeIt {
  1: string word
  /** How many words were looked at. */
  2: i32 among
}

service Differ {
  /** How alike two texts are: 1 for equal ones, 0 for those that have nothing in common. */
  double likeness(1: string left, 2: string right) (katamari.readonly = "true")

  /** The word that is most like this one. */
  string closest(1: string word, 2: list<string> among) throws (1: NothingLikeIt none) (katamari.readonly = "true")

  /** The lines that make `after` of `before`, as `diff -u` prints them; '' when there are none. */
  string changes(1: Text before, 2: Text after) (katamari.readonly = "true")
}
