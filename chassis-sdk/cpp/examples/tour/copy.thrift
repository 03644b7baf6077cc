/**
 * The methods of every copy of a service.
 */
namespace cpp tour

/** A copy: one process. */
struct Which {
  /** Its name in the mesh: `Tour@1.0.0/0`. */
  1: string resource
  2: i32 pid
}

service Copy {
  Which whoAreYou() (katamari.readonly = "true")
}
