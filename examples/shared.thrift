/**
 * What the Calculator shares with other services: a key, a value, and a service to look one up.
 */
namespace * shared

/** An entry of the calculator's log. */
struct SharedStruct {
  /** The log id the calculation was made under. */
  1: i32 key
  /** Its result as decimal digits; empty when this copy has no calculation under that id. */
  2: string value
}

/** Looks up what was logged. */
service SharedService {
  /**
   * The result that `calculate` logged under this id. Copies of a chassis share no memory: each knows the
   * calculations it made itself, the latest 1000 of them.
   */
  SharedStruct getStruct(1: i32 key) (katamari.readonly = "true")
}
