/**
 * What every copy of a service can tell of itself.
 */
namespace cpp tour

/** A copy: one process. */
struct Which {
  /** As its manager calls it: `Tour@1.0.0/0`. */
  1: string resource
  2: i32 pid
}

service Copy {
  Which whoAreYou() (katamari.readonly = "true")
}
