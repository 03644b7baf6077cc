/**
 * Differ compares texts and finds similar words, with difflib of Python's standard library.
 */
namespace py differ

struct Text {
  1: string name
  2: string content
}

/** No word is similar to the given one. */
exception NothingLikeIt {
  1: string word
  /** Number of words that were compared. */
  2: i32 among
}

service Differ {
  /** Returns the similarity of two texts: 1 if they are equal, 0 if they have nothing in common. */
  double likeness(1: string left, 2: string right) (katamari.readonly = "true")

  /** Returns the word that is most similar to `word`. */
  string closest(1: string word, 2: list<string> among) throws (1: NothingLikeIt none) (katamari.readonly = "true")

  /** Returns the changes from `before` to `after`, as `diff -u` prints them; '' if there are none. */
  string changes(1: Text before, 2: Text after) (katamari.readonly = "true")
}
