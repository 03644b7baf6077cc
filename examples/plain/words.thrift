/** What both sample servers offer; neither knows anything of Katamari. */

exception NoWords {
  1: string why
}

service Words {
  /** How often each word occurs. */
  map<string, i32> tally(1: string text) throws (1: NoWords none) (katamari.readonly = "true")

  /** The process that answers, to see that there are several. */
  i32 pid() (katamari.readonly = "true")

  /** Called by the mesh from time to time: whoever throws here, or does not answer, is replaced. */
  void ready()
}
