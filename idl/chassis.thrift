/**
 * The control services between a chassis and the mesh. Every chassis of an SDK serves `katamari.Chassis` in addition
 * to its own service; the mesh serves `katamari.Mesh`. Both are multiplexed names.
 */
namespace * katamari

/** How a chassis describes itself. Chassis with equal details and equal interface form a pool. */
struct ChassisDetails {
  1: string serviceName
  2: string version
  3: list<string> roles
  4: list<string> tags
  5: map<string, string> more
  /** Name of the main IDL file, and the texts of it and all its includes by name. */
  6: string idlMain
  7: map<string, string> idlFiles
  /** Calls that it can run at once; 1 for single-threaded code. */
  8: i32 concurrency
  /** Language and version of the SDK, for logs: `typescript 0.1.0`. */
  9: string sdk
  /**
   * Prefetch: calls beyond `concurrency` that it accepts and queues. Each starts after the previous reply was
   * written. The mesh sends at most this many, of idempotent methods only, and may cancel them
   * (`katamari.Link:cancel`) until they start. Default 0: none.
   */
  10: optional i32 ahead
}

service Chassis {
  ChassisDetails describe()
  /** Answers at once if the chassis is healthy. */
  void ping()
  /** Graceful shutdown: finishes the calls in flight, then exits with status 0. */
  oneway void drain()
}

/** The interface of a service, which a chassis needs to call it. */
struct InterfaceText {
  1: string serviceName
  /** Exact version to which a call would be routed now. */
  2: string version
  3: string idlMain
  4: map<string, string> idlFiles
}

/** Served by the mesh at KATAMARI_MESH and on its Thrift ports, under the multiplexed name `katamari.Mesh`. */
service Mesh {
  InterfaceText describe(1: string serviceName, 2: string version) (katamari.readonly = "true")
}
