/**
 * What a resource manager answers on its link beside calls: how it stands, what happened, and orders of an operator
 * that a faceplate hands on. Under the multiplexed name `katamari.Manager`; for processes of the mesh only.
 */
include "katamari.thrift"

namespace * katamari

service Manager {
  katamari.MeshStatus status() (katamari.readonly = "true")

  /** Its own events after `afterSeq`, oldest first; waits up to `waitMs` for the first one. */
  list<katamari.Event> events(1: i64 afterSeq, 2: i32 waitMs) (katamari.readonly = "true")

  /**
   * Rolling restart of the pools of a service ('' version: all versions). Returns the number of resources that were
   * replaced.
   */
  i32 roll(1: string serviceName, 2: string version)

  /** Replaces one resource, by its name. */
  void restart(1: string resource)
}
