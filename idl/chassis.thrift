/**
 * The control services between a chassis and the mesh. Every chassis that uses an SDK serves `katamari.Chassis` in
 * addition to its own service. The mesh serves `katamari.Mesh`. Both are service names of multiplexed calls.
 */
namespace * katamari

/** How a chassis describes itself. Chassis with equal details and equal interface form a pool. */
struct ChassisDetails {
  1: string serviceName
  2: string version
  3: list<string> roles
  4: list<string> tags
  /** Other details. */
  5: map<string, string> more
  /** Name of the main IDL file. */
  6: string idlMain
  /** Text of the main file and of all its includes, by file name. */
  7: map<string, string> idlFiles
  /** Calls that it can run at once; 1 for single-threaded code. */
  8: i32 concurrency
  /** Language and version of the SDK, for logs: `typescript 0.1.0`. */
  9: string sdk
  /**
   * Prefetch: number of calls beyond `concurrency` that the chassis accepts and queues. A queued call starts after
   * the previous reply was written. The mesh sends ahead only calls of idempotent methods, and may cancel them
   * (`katamari.Link:cancel`) until they start. Default 0: none.
   */
  10: optional i32 ahead
  /** Whether the chassis is a content server: it serves `katamari.Content` (content.thrift) too. */
  11: optional bool holdsShards
}

service Chassis {
  ChassisDetails describe()
  /** Answers at once if the chassis is healthy. */
  void ping()
  /** Graceful shutdown: finishes the calls in flight, then exits with status 0. */
  oneway void drain()
}

/** The interface of a service. A chassis or client needs it to call the service. */
struct InterfaceText {
  1: string serviceName
  /** Exact version that has this interface. */
  2: string version
  3: string idlMain
  4: map<string, string> idlFiles
  /** Name of the service in the IDL, if it is another one: an index has the interface of its content service. */
  5: optional string idlService
}

/**
 * Served by the mesh at KATAMARI_MESH and on its Thrift ports, under the multiplexed name `katamari.Mesh`, and by
 * JSON-RPC as `katamari.Mesh.outcome`.
 */
service Mesh {
  /** Returns the interface of a service. `version` is a version or a range; '' for any. */
  InterfaceText describe(1: string serviceName, 2: string version) (katamari.readonly = "true")

  /**
   * Reports what a call was good for, such as a click: `katamari compare` compares the versions by it. The value counts
   * for the version that the weights give to the key.
   * @param experiment name of the experiment of a route; that of the service if the route has none
   * @param metric letters, digits, `_`, `.` and `-`, at most 64
   * @param value 0 or 1 for a rate, any number for a mean
   */
  void outcome(1: string experiment, 2: string key, 3: string metric, 4: double value)
}
