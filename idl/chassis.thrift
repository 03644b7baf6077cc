/**
 * The control service every chassis built with the SDK answers beside its own, under the multiplexed name
 * `katamari.Chassis`.
 */
namespace * katamari

/** What a chassis says it is. Equal details and equal interface make a pool. */
struct ChassisDetails {
  1: string serviceName
  2: string version
  3: list<string> roles
  4: list<string> tags
  5: map<string, string> more
  /** Name of the main IDL file, and the text of it and of everything it includes, by name. */
  6: string idlMain
  7: map<string, string> idlFiles
  /** Calls it can work on at once; 1 for single-threaded code. */
  8: i32 concurrency
  /** Language and version of the SDK, for people: `typescript 0.1.0`. */
  9: string sdk
  /**
   * Calls that it takes beyond `concurrency` and keeps in line: each begins after the answer to the one before it was
   * written. The mesh sends no more than these, of idempotent methods only, and may take them back
   * (`katamari.Link:cancel`) until they begin. Default 0: none.
   */
  10: optional i32 ahead
}

service Chassis {
  ChassisDetails describe()
  /** Answers at once when the chassis is well. */
  void ping()
  /** Finish what is under way, then exit with status 0. */
  oneway void drain()
}

/** What a chassis needs to know of a service before it can call it. */
struct InterfaceText {
  1: string serviceName
  /** Exact version that a call would meet now. */
  2: string version
  3: string idlMain
  4: map<string, string> idlFiles
}

/** Answered by the mesh at KATAMARI_MESH and on its Thrift ports, under the multiplexed name `katamari.Mesh`. */
service Mesh {
  InterfaceText describe(1: string serviceName, 2: string version) (katamari.readonly = "true")
}
