/**
 * Probe: a service for tests, whose methods show what a kit does.
 */
include "values.thrift"

namespace rb probe

service Probe extends values.Base {
  values.Everything echo(1: values.Everything value) (katamari.idempotent = "true")

  /** What the context says, by name. */
  map<string, string> context()

  void nothing()
  void declared(1: string why) throws (1: values.Refused refused)
  /** Raises something of that kind. */
  void undeclared(1: string kind)
  /** Returns something that is no string. */
  string wrong(1: string kind)
  i16 small(1: i64 number)
  values.Tree deep(1: i32 levels)
  binary large(1: i32 bytes)

  /** Makes the file `name`.in and returns when there is `name`.out. */
  string hold(1: string name)
  /** Makes the file `name`.in, and `name`.abandoned when nobody waits for it any more. */
  void abandoned(1: string name)
  /** Returns when so many are inside at once. */
  i32 meet(1: i32 calls)

  /** Appends to the file. */
  oneway void note(1: string file, 2: string text)
  oneway void badNote()

  i32 retire()
  void leave(1: i32 code)

  /** Calls that method of another Probe, within so many ms. */
  map<string, string> forward(1: string serviceName, 2: string version, 3: string what, 4: i32 timeoutMs) throws (1: values.Refused refused)
}
