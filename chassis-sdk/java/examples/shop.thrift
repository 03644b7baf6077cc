/** The example of the Java kit: a shop that calls the Speller. */
namespace java shop

exception OutOfStock {
  1: string item
  2: i64 left
}

service Shop {
  /** Returns the price of the order, in cents. */
  i64 order(1: string item, 2: i64 pieces) throws (1: OutOfStock none)

  /** Returns the words and their corrected spelling. */
  list<string> search(1: string words) (katamari.readonly = "true")
}
