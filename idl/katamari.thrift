/**
 * Katamari: what travels inside the mesh beside the users' own messages, and the admin service.
 */
namespace * katamari

/** Travels in field 32767 of the argument struct, placed first. Absent fields are empty, zero or false. */
struct CallContext {
  /** Time left for the call when it was written, in microseconds. */
  1: optional i64 timeLeftUs
  2: optional string serviceName
  3: optional string version
  4: optional list<string> roles
  5: optional list<string> tags
  6: optional map<string, string> details
  /** Sticky key. */
  7: optional string key
  8: optional string traceparent
  9: optional string tracestate
  10: optional string caller
  11: optional i32 attempt
  /** Refuse with `overloaded` instead of waiting in a queue. */
  12: optional bool doNotQueue
  /** What the client said in headers of its transport that mean nothing to the mesh. */
  13: optional map<string, string> headers
}

/** Codes of the error table. */
enum ErrorCode {
  NO_POOL = 1
  OVERLOADED = 2
  TIMEOUT = 3
  RESOURCE_FAILED = 4
  DRAINING = 5
  DENIED = 6
  RATE_LIMITED = 7
  TOO_LARGE = 8
  BAD_REQUEST = 9
  INTERNAL = 10
  CANCELLED = 11
}

/** Travels in field 32767 of the result struct (or of TApplicationException), placed first. */
struct ReplyContext {
  1: optional string version
  2: optional i64 queueUs
  3: optional i64 serviceUs
  4: optional i32 freeNow
  5: optional i32 queuedNow
  6: optional string resource
  /** Set when the mesh itself failed the call. */
  7: optional ErrorCode errorCode
  8: optional i64 retryAfterMs
  /** 1 queue, 2 service: where the deadline passed. */
  9: optional i32 stage
  /** True when the call certainly never ran. */
  10: optional bool notRun
  /** The chassis wants to be replaced now that it has answered. */
  11: optional bool retire
}

/** The admin interface refused: wrong token, unknown subject, bad value. */
exception AdminRefused {
  1: string why
}

struct ResourceStatus {
  1: string name
  2: string state
  3: i32 pid
  4: i32 inFlight
  5: i64 callsServed
  6: i64 ageMs
  7: i64 rssBytes
  8: i32 restarts
  9: string note
}

struct PoolStatus {
  1: string id
  2: string serviceName
  3: string version
  4: list<string> roles
  5: list<string> tags
  6: string interfaceId
  7: string manager
  8: i32 wanted
  9: i32 alive
  10: i32 free
  11: i32 queued
  12: i32 queueMax
  13: double weight
  14: i64 calls
  15: i64 errors
  16: double ratePerS
  17: optional double p50Ms
  18: optional double p99Ms
  19: optional double queueP99Ms
  20: map<string, i32> restartsByReason
  21: list<ResourceStatus> resources
  22: string note
}

struct CallSums {
  1: i64 accepted
  2: i64 replied
  3: i64 failed
  4: i64 refused
  5: i64 timed_out
  6: i64 cancelled
  7: i64 inFlight
}

struct Listener {
  1: string name
  2: string address
}

/** One process of the mesh, as seen from the one that is asked. */
struct ProcessStatus {
  1: string name
  /** master, manager or faceplate. */
  2: string role
  3: string machine
  4: string stats
  /** up, draining or unreachable. */
  5: string state
  6: double capacity
  7: i32 resources
  8: bool isLeader
}

struct MeshStatus {
  1: string mesh
  2: string name
  3: string version
  4: string runtime
  5: i32 pid
  6: i64 uptimeMs
  7: bool isReady
  8: bool isDraining
  9: string note
  10: list<string> roles
  11: i64 timeoutMs
  12: i64 rssBytes
  13: map<string, i32> connections
  14: list<Listener> listeners
  15: CallSums calls
  16: list<PoolStatus> pools
  17: list<ProcessStatus> processes
  /** Name of the master that leads, '' for none, and its term. */
  18: string leader
  19: i64 term
}

struct Event {
  1: i64 seq
  2: i64 atMs
  3: string kind
  4: string subject
  5: string text
  6: list<string> lines
  /** Name of the process in which it happened. */
  7: string process
}

/** Share of a service's calls by version; versions not named get none, an empty map means equal shares by resources. */
struct Route {
  1: string serviceName
  2: map<string, i32> weights
}

struct Settings {
  /** The global timeout: no call waits or runs longer. */
  1: optional i64 timeoutMs
}

/** How long the steps of a chassis' life may take. */
struct ChassisTimes {
  /** From launch to introduced. */
  1: i32 startTimeoutMs
  2: i32 pingEveryMs
  3: i32 pingTimeoutMs
  /** Calls under way may take so long to finish when it is drained. */
  4: i32 drainTimeoutMs
  /** From SIGTERM to SIGKILL. */
  5: i32 stopGraceMs
  /** A call may outlive its deadline by so much before its chassis is killed. */
  6: i32 hangGraceMs
}

/** How often a place may be filled anew before its manager slows down. */
struct RestartRules {
  1: i32 intensity
  2: i32 periodMs
  3: i32 backoffFirstMs
  4: i32 backoffMaxMs
}

/** When a chassis that works is replaced all the same; 0 means never. */
struct RecycleRules {
  1: i64 afterCalls
  2: i64 afterAgeMs
  3: i64 memoryBytesMax
}

/** The text of an interface: its main file, and every file that it includes, by name. */
struct IdlText {
  1: string main
  2: map<string, string> files
}

/** The wanted state of one version of a service in the whole mesh. */
struct Deployment {
  1: string serviceName
  2: string version
  /** Copies in the whole mesh. */
  3: i32 count
  /** Program and arguments, as they are on every machine. */
  4: list<string> command
  /** Absolute; '' for the manager's own. */
  5: string cwd
  6: map<string, string> env
  /** unix or tcp. */
  7: string listen
  8: list<string> roles
  9: list<string> tags
  10: map<string, string> more
  /** For a plain Thrift server: the interface it has. Absent: the chassis is asked. */
  11: optional IdlText idl
  /** Calls that one process takes at once. Absent: what the chassis says, 1 for plain servers. */
  12: optional i32 concurrency
  13: ChassisTimes times
  14: RestartRules restart
  15: RecycleRules recycle
  /** Calls that may wait for a resource of its pool. */
  16: i32 queueMax
  /**
   * How a plain Thrift server reads and writes: framed, buffered or header; binary, old-binary, compact or json.
   * Absent: framed, binary.
   */
  17: optional string transport
  18: optional string protocol
  /** The method that is called to see whether a plain server is well. */
  19: optional string healthCheck
}

/** What came of a deployment that was sent. */
enum DeployOutcome {
  CREATED = 1
  CHANGED = 2
  UNCHANGED = 3
}

/** The admin service, behind a token; every process with a faceplate offers it. */
service Katamari {
  MeshStatus status(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /** Events after `afterSeq`, oldest first; waits up to `waitMs` for the first one. */
  list<Event> events(1: string token, 2: i64 afterSeq, 3: i32 waitMs) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /**
   * Rolling restart of the pools of a service ('' version: all versions) on all managers, or of one resource by its
   * name: `Service@version/index`, with `manager:` before it when several managers have one of that name. Returns the
   * resources concerned.
   */
  i32 restart(1: string token, 2: string serviceName, 3: string version, 4: string resource) throws (1: AdminRefused refused)

  /**
   * Makes a deployment of the mesh, or changes the one of that service and version. The leader gives its copies to
   * the managers.
   */
  DeployOutcome deploy(1: string token, 2: Deployment deployment) throws (1: AdminRefused refused)

  /** Changes how many copies of a deployment there are in the mesh; returns it as it is now. */
  Deployment scale(1: string token, 2: string serviceName, 3: string version, 4: i32 count) throws (1: AdminRefused refused)

  /** Takes a deployment away; its copies are drained and ended. */
  void undeploy(1: string token, 2: string serviceName, 3: string version) throws (1: AdminRefused refused)

  /** The deployments of the mesh. Those that stand in the configuration of a manager are not among them. */
  list<Deployment> getDeployments(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /** From now on this manager is to run nothing: its copies move to others. Holds until undrain, over restarts too. */
  void drain(1: string token, 2: string manager) throws (1: AdminRefused refused)

  void undrain(1: string token, 2: string manager) throws (1: AdminRefused refused)

  /** Managers that are to run nothing. */
  list<string> getDrained(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  Settings getSettings(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /** What is absent goes back to what the configuration says. Returns what holds now. */
  Settings setSettings(1: string token, 2: Settings settings) throws (1: AdminRefused refused)

  list<Route> getRoutes(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")
  void setRoute(1: string token, 2: Route route) throws (1: AdminRefused refused)
}
