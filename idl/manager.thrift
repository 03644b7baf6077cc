/**
 * The control service of a resource manager on its link: status, events, and operator commands that a faceplate
 * forwards. Its multiplexed name is `katamari.Manager`. Only processes of the mesh can call it.
 */
include "katamari.thrift"

namespace * katamari

service Manager {
  katamari.MeshStatus status() (katamari.readonly = "true")

  /** Returns the manager's own events after `afterSeq`, oldest first. Waits up to `waitMs` for the first one. */
  list<katamari.Event> events(1: i64 afterSeq, 2: i32 waitMs) (katamari.readonly = "true")

  /**
   * Restarts the pools of a service one resource at a time; version '' means all versions. Returns the number of
   * replaced resources.
   */
  i32 roll(1: string serviceName, 2: string version)

  /** Replaces the resource with this name: `Service@version/index`. */
  void restart(1: string resource)
}
