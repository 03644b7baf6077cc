/**
 * How a kit for content servers treats shards and the calls that use them. The author of a kit implements this service
 * in a test fixture, and `katamari conform` checks it (docs/conform.md).
 *
 * A shard is a text file. Each line is a word, a space and a value:
 *
 *     entries 3          number of entries in its facts; 0 without this line
 *     slow 500           `open` sleeps so many milliseconds first
 *     damaged WHY        `open` fails with this message: the files are damaged
 *     refused WHY        `open` fails with this message
 *
 * The fixture keeps the file open for as long as the shard is open.
 */
namespace * content_conformance

service ContentConformance {
  /** Uses shards for a while: sleeps so many milliseconds, then returns their names in order. */
  list<string> hold(1: optional list<string> shards, 2: i32 ms)
    (katamari.readonly = "true", katamari.gather = "concat", conform = "skip")
}
