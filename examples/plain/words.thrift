/** The interface of both sample servers. Neither contains Katamari code. */

exception NoWords {
  1: string why
}

service Words {
  /** Returns the number of occurrences of each word. */
  map<string, i32> tally(1: string text) throws (1: NoWords none) (katamari.readonly = "true")

  /** Returns the process id, to show that there are several copies. */
  i32 pid() (katamari.readonly = "true")

  /** Health check of the mesh: a copy that throws or does not answer is replaced. */
  void ready()
}
