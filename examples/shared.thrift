/** Types and a service that the Calculator shares with other services: a key with a value, and a lookup. */
namespace * shared

/** An entry of the calculator's log. */
struct SharedStruct {
  /** The log id of the calculation. */
  1: i32 key
  /** The result as decimal digits; empty if this copy has no calculation with that id. */
  2: string value
}

/** Looks up logged results. */
service SharedService {
  /**
   * Returns the result that `calculate` logged under this id. Copies of a chassis share no memory: each copy has only
   * its own calculations, the latest 1000.
   */
  SharedStruct getStruct(1: i32 key) (katamari.readonly = "true")
}
