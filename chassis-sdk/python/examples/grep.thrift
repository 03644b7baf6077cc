/**
 * Grep finds lines in texts. It is a content server: a shard is a text file, or a folder of text files.
 */
namespace py grep
namespace rb grep

/** The pattern is not a regular expression. */
exception BadPattern {
  1: string why
}

service Grep {
  /**
   * Returns the lines in which the pattern is found, as `shard:line: text`. The lines of a folder are counted on from
   * file to file, in order of their names.
   * @param pattern regular expression of the language of the server
   */
  list<string> grep(1: optional list<string> shards, 2: string pattern) throws (1: BadPattern bad)
    (katamari.readonly = "true", katamari.gather = "concat")
}
