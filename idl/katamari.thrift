/**
 * Structs that the mesh adds to calls and replies of users, and the admin service.
 */
namespace * katamari

/** Context of a call: field 32767 of the argument struct, placed first. Absent fields are empty, zero or false. */
struct CallContext {
  /** Remaining time of the call when it was sent, in microseconds. */
  1: optional i64 timeLeftUs
  2: optional string serviceName
  3: optional string version
  4: optional list<string> roles
  5: optional list<string> tags
  6: optional map<string, string> details
  /** Affinity key. */
  7: optional string key
  8: optional string traceparent
  9: optional string tracestate
  10: optional string caller
  11: optional i32 attempt
  /** Whether to refuse the call with `overloaded` instead of queueing it. */
  12: optional bool doNotQueue
  /** Headers of the client that have no meaning to the mesh. */
  13: optional map<binary, binary> headers
  /** Name of the authenticated caller; absent for an anonymous one. */
  14: optional string identityName
  15: optional list<string> identityRoles
  /** How the caller proved its name: mtls, token, jwt, chassis or mesh. */
  16: optional string identityHow
  /**
   * The deadline on the monotonic clock of the receiver, in microseconds, if the sender knows that clock. The receiver
   * does not start the call after it, however late the call arrives.
   */
  17: optional i64 deadlineUs
  /**
   * Share of the shards of an index that must be in the answer, from 0 to 1. It precedes the parameter `minCoverage` of
   * the method. If absent, that parameter decides, and without one the call wants every shard.
   */
  18: optional double minCoverage
  /**
   * Copies of one call have the same text, unique in the mesh. A pool gives them to different chassis. Absent for a
   * call without copies.
   */
  19: optional string group
}

/** Error codes of the mesh. */
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
  REFUSED_AS_POISON = 12
  INCOMPLETE = 13
}

/** Context of a reply: field 32767 of the result struct (or of TApplicationException), placed first. */
struct ReplyContext {
  1: optional string version
  /** Time in the queue of the pool. */
  2: optional i64 queueUs
  /** Time in the chassis. */
  3: optional i64 serviceUs
  /** Free resources of the pool when the reply was sent. */
  4: optional i32 freeNow
  /** Calls in the queue of the pool when the reply was sent. */
  5: optional i32 queuedNow
  6: optional string resource
  /** Set when the mesh itself failed the call. */
  7: optional ErrorCode errorCode
  /** Suggested pause before a retry. */
  8: optional i64 retryAfterMs
  /** Where the deadline passed: 1 queue, 2 service. */
  9: optional i32 stage
  /** True if the call certainly did not run. */
  10: optional bool notRun
  /** Whether the chassis requests to be replaced after this reply. */
  11: optional bool retire
  /** True if the call may have cost a copy its connection or its life, so that it must not be sent again. */
  12: optional bool isSuspect
  /** Shards of an index that the call was about, and those of them that are wholly in the answer. */
  13: optional i32 shards
  14: optional i32 completeShards
  /**
   * Some of the others in order of their names, at most 10: `index@version/shard REASON`, with the name of a value of
   * Lack (idl/content.thrift).
   */
  15: optional list<string> missingShards
  /** The rule of a route that has chosen the version, if it was not the weights. */
  16: optional string rule
}

/** The admin service refused a call: wrong token, unknown name or invalid value. */
exception AdminRefused {
  1: string why
  /**
   * Why, for programs: wrong_token, missing_scope, rate_limited, invalid (a value), unknown_name, consul_failed, or the
   * code of an error of the mesh in lower case. Further codes may be added.
   */
  2: optional string code
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

/** A call that has cost a copy its connection or its life. */
struct SuspectCall {
  1: string method
  /** Caller without its port. */
  2: string caller
  /** Hash of the arguments and their number of bytes. */
  3: string shape
  /** Copies that it has certainly cost, and copies that it or a neighbor has cost. */
  4: i32 losses
  5: i32 doubts
  /** How much longer it is refused; 0 when it may run. */
  6: i64 refusedForMs
  /** Calls that were refused. */
  7: i64 refused
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
  23: optional list<SuspectCall> suspects
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

/** A process of the mesh, as seen from the process that reports it. */
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
  /** Name of the master that leads; '' for none. */
  18: string leader
  /** Term of the leader. */
  19: i64 term
}

struct Event {
  1: i64 seq
  2: i64 atMs
  3: string kind
  4: string subject
  5: string text
  6: list<string> lines
  /** Name of the process that reports the event. */
  7: string process
}

/** A rule of a route. All conditions that are set must hold; of the items of one condition, one is enough. */
struct RouteRule {
  /** Shown in answers (header katamari-rule) and metrics. */
  1: string name
  /** The version that gets the calls. */
  2: string to
  /** Names of callers; `*` at the end stands for any text. */
  3: optional list<string> callers
  /** Roles of callers. */
  4: optional list<string> roles
  /** Headers that have no meaning to the mesh, by name in lower case; `*` for any value. All must be there. */
  5: optional map<string, string> headers
  /** Tags that the call prefers. */
  6: optional list<string> tags
  7: optional list<string> methods
  /** Sticky keys. */
  8: optional list<string> keys
  /** Percentage of all sticky keys, 0 to 100. */
  9: optional double share
}

/** A call as explainRoute imagines it. */
struct ImaginedCall {
  1: string serviceName
  /** '' for any method. */
  2: string method
  /** '' for none. */
  3: string version
  /** Name of the caller; '' for an anonymous one. */
  4: string caller
  /** Roles of the caller. */
  5: list<string> roles
  6: map<string, string> headers
  7: list<string> tags
  /** Sticky key; '' for none. */
  8: string key
}

/** What one rule of a route does with a call. */
struct RouteStep {
  1: string rule
  2: bool applies
  /** The condition that does not hold; '' if it applies. */
  3: string why
}

struct RouteExplanation {
  /** The rules that were tried, the last of which may apply. */
  1: list<RouteStep> steps
  /** The version that gets the call; '' if several take turns, or none does. */
  2: string version
  /** As in answers: the rule, or `fallback`; '' for the weights. */
  3: string rule
  4: string why
  /** Whether the call gets a version at all. */
  5: bool isServed
}

/** Copies of calls to another version, whose answers are compared with those that callers get. */
struct RouteMirror {
  /** The version that gets the copies; '' removes the mirror. */
  1: string to
  /** Percentage of the calls that are copied, 0 to 100; 100 by default. */
  2: optional double share
  /** By default all methods that are readonly or idempotent. */
  3: optional list<string> methods
  /** Copies the calls of `methods` whatever they change. */
  4: optional bool force
  /** Paths in answers that are not compared: `hits[].score`. */
  5: optional list<string> ignore
  /** Doubles are equal if they differ by no more than this part of the larger one; 1e-9 by default. */
  6: optional double tolerance
}

/** How the copies of calls of one method ended, since the mirror was set. */
struct MirrorCount {
  1: string serviceName
  /** The version that gets the copies. */
  2: string version
  3: string method
  4: i64 equal
  5: i64 different
  /** The copy got no answer. */
  6: i64 failed
  /** The call was not copied, or the answers were not compared. */
  7: i64 skipped
}

/** How many answers of a method differ at a path. */
struct MirrorPathCount {
  1: string serviceName
  2: string version
  3: string method
  /** `hits[].score`; `(result)` for the whole answer. */
  4: string path
  5: i64 calls
}

/** A value that differs, as short JSON text; '' where there is none. */
struct MirrorPlace {
  1: string path
  /** The first place on the path: `hits[3].score`. */
  2: string at
  3: string answer
  4: string mirrorAnswer
}

/** A call whose two answers differ. Texts are cut, and fields with katamari.secret are masked. */
struct MirrorDifference {
  /** Unix time in ms. */
  1: i64 atMs
  2: string serviceName
  3: string method
  /** The version whose answer the caller got. */
  4: string version
  5: string answer
  /** The version that got the copy. */
  6: string mirrorVersion
  7: string mirrorAnswer
  8: string parameters
  9: list<MirrorPlace> places
}

/** What mirrors have found. */
struct MirrorReport {
  1: list<MirrorCount> counts
  2: list<MirrorPathCount> paths
  /** The last 100 of each process; the latest last. */
  3: list<MirrorDifference> differences
  /** Managers that could not be asked. */
  4: list<string> missing
}

/** Which version of a service gets which of its calls. */
struct Route {
  1: string serviceName
  /**
   * Weights by which versions share the calls. A version without a weight gets none. With an empty map, the shares are
   * proportional to the number of resources.
   */
  2: map<string, i32> weights
  /** Tried in order before the weights; the first that applies decides. */
  3: optional list<RouteRule> rules
  /** Name by which sticky keys are spread over versions; the name of the service by default. */
  4: optional string experiment
  /** What a call gets whose version has nobody alive: `others` (the default), `fail`, or a version. */
  5: optional string fallback
  /** Whether callers may ask for a version; true by default. */
  6: optional bool callersChoose
  /**
   * Number of the change that made the route, from 1; missing for that of the configuration. In setRoute: the change is
   * refused if the route is not this one any more; 0 stands for that of the configuration.
   */
  7: optional i64 index
  /** Who made it: the name of an admin token, or `leader`. Not read in setRoute. */
  8: optional string by
  /** When, in ms since 1970. Not read in setRoute. */
  9: optional i64 atMs
  10: optional RouteMirror mirror
  /** The argument that is the sticky key of calls that bring none, as `args.user.id`; '' for none. */
  11: optional string sticky
  /**
   * Number of the change that last changed which calls a version gets. Versions are compared from there on. Not read in
   * setRoute.
   */
  12: optional i64 splitIndex
  /**
   * By method, or `*` for all others that may have copies: after which percentile of its times a second copy of a call
   * is sent, as `p95`; `off` for never. Precedes `katamari.hedge` of the method.
   */
  13: optional map<string, string> hedge
  /**
   * By method, or `*`: how many copies get a call, and how many of the answers must be alike, as `2 of 3`,
   * `2 of 3 versions`, both also with ` or fewer`, or `off`. Precedes `katamari.majority` of the method.
   */
  14: optional map<string, string> majority
}

/** One change of the route of a service. */
struct RouteChange {
  /** From 1. */
  1: i64 index
  /** The name of an admin token, or `leader`. */
  2: string by
  /** In ms since 1970. */
  3: i64 atMs
  /** What it made; missing if it restored the route of the configuration. */
  4: optional Route route
}

struct Settings {
  /** Global timeout: the maximum time that a call waits and runs. */
  1: optional i64 timeoutMs
}

/** Timeouts in the life cycle of a chassis. */
struct ChassisTimes {
  /** From launch until ready. */
  1: i32 startTimeoutMs
  2: i32 pingEveryMs
  3: i32 pingTimeoutMs
  /** From the start of a drain until the calls in flight must have finished. */
  4: i32 drainTimeoutMs
  /** From SIGTERM to SIGKILL. */
  5: i32 stopGraceMs
  /** How long a call may exceed its deadline before its chassis is killed. */
  6: i32 hangGraceMs
}

/** How often a resource may be restarted before its manager backs off. */
struct RestartRules {
  /** Starts within `periodMs` that need no pause. After a failed start there is always a pause. */
  1: i32 intensity
  2: i32 periodMs
  /** First pause. Each further pause is twice as long, up to `backoffMaxMs`. */
  3: i32 backoffFirstMs
  4: i32 backoffMaxMs
}

/** Limits after which a healthy chassis is replaced; 0 means never. */
struct RecycleRules {
  1: i64 afterCalls
  2: i64 afterAgeMs
  3: i64 memoryBytesMax
}

/** The text of an interface: its main file and all its includes by name. */
struct IdlText {
  1: string main
  2: map<string, string> files
}

/** Limits of the system for one process. If absent, those of the mesh. */
struct SystemLimits {
  1: optional i64 openFiles
  /** Address space. */
  2: optional i64 memoryBytes
  /** Processes of the user. */
  3: optional i64 processes
  4: optional i64 coreBytes
  /** CPU time in seconds. */
  5: optional i64 cpuS
}

/** User and limits of the processes of a deployment. */
struct Isolation {
  /** Name or number; '' for the user of the mesh. */
  1: string user
  /** '' for the primary group of the user. */
  2: string group
  /** Supplementary groups. If absent, those of the user. */
  3: optional list<string> groups
  /** Octal digits; '' for that of the mesh. */
  4: string umask
  5: bool noNewPrivileges
  6: SystemLimits limits
}

/** Desired state of one version of a service in the mesh. */
struct Deployment {
  1: string serviceName
  2: string version
  /** Number of copies in the mesh. */
  3: i32 count
  /** Program and arguments. They must be valid on every machine. */
  4: list<string> command
  /** Working directory, an absolute path; '' for the manager's own. */
  5: string cwd
  6: map<string, string> env
  /** unix or tcp. */
  7: string listen
  8: list<string> roles
  9: list<string> tags
  10: map<string, string> more
  /** Interface of a plain Thrift server. If absent, the mesh asks the chassis. */
  11: optional IdlText idl
  /** Calls that one process runs at once. If absent, the chassis decides; 1 for plain servers. */
  12: optional i32 concurrency
  13: ChassisTimes times
  14: RestartRules restart
  15: RecycleRules recycle
  /** Maximum calls that wait for a resource of the pool. */
  16: i32 queueMax
  /**
   * Wire format of a plain Thrift server: framed, buffered or header; binary, old-binary, compact or json. If absent,
   * framed and binary.
   */
  17: optional string transport
  18: optional string protocol
  /** Method for health checks of a plain server. */
  19: optional string healthCheck
  /** User and limits of its processes. If absent, they run as the mesh itself does. */
  20: optional Isolation isolation
  /** Whether each manager that is not drained runs `count` copies, instead of all together. */
  21: optional bool perManager
}

/** An admin token, without its value. */
struct AdminToken {
  1: string name
  /** read, operate, deploy. */
  2: list<string> scopes
  /** Roles of its owner in access policies. */
  3: list<string> roles
  4: i64 createdAtMs
  /** Name of the token that created it. */
  5: string createdBy
  /** Absent: it does not expire. */
  6: optional i64 expiresAtMs
}

/** One version of the access policy. */
struct AccessPolicy {
  /** Counts up from 1; 0 while there was never a policy. */
  1: i64 version
  /** The document in YAML; empty for no policy. */
  2: string text
  /** Who changed it. */
  3: string changedBy
  4: i64 changedAtMs
}

/** Whether a caller may call a method, and the rules that say so. */
struct AccessDecision {
  1: bool isAllowed
  2: string why
}

/** Result of `deploy`. */
enum DeployOutcome {
  CREATED = 1
  CHANGED = 2
  UNCHANGED = 3
}

/**
 * The admin service. Every process with a faceplate serves it. Each method needs a token with its scope: `read` for
 * status, events and get...; `operate` for restart, scale, drain, undrain, setSettings and setRoute; `deploy` for
 * deploy, undeploy, createToken and revokeToken. The root token has all scopes.
 */
service Katamari {
  MeshStatus status(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /** Returns the events after `afterSeq`, oldest first. Waits up to `waitMs` for the first one. */
  list<Event> events(1: string token, 2: i64 afterSeq, 3: i32 waitMs) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /**
   * Rolling restart of the pools of a service on all managers (version '' means all versions), or of one resource by
   * name: `Service@version/index`, with the prefix `manager:` if several managers have a resource of that name.
   * Returns the number of replaced resources.
   */
  i32 restart(1: string token, 2: string serviceName, 3: string version, 4: string resource) throws (1: AdminRefused refused)

  /**
   * Creates the deployment of a service and version in the mesh, or changes it. The leader assigns its copies to
   * managers.
   */
  DeployOutcome deploy(1: string token, 2: Deployment deployment) throws (1: AdminRefused refused)

  /** Changes the number of copies of a deployment. Returns the changed deployment. */
  Deployment scale(1: string token, 2: string serviceName, 3: string version, 4: i32 count) throws (1: AdminRefused refused)

  /** Removes a deployment. Its copies are drained and stopped. */
  void undeploy(1: string token, 2: string serviceName, 3: string version) throws (1: AdminRefused refused)

  /** Returns the deployments in Consul, without those from the configuration files of managers. */
  list<Deployment> getDeployments(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /** Drains a manager: its copies move to other managers. Stays in effect until `undrain`, also across restarts. */
  void drain(1: string token, 2: string manager) throws (1: AdminRefused refused)

  void undrain(1: string token, 2: string manager) throws (1: AdminRefused refused)

  /** Returns the drained managers. */
  list<string> getDrained(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  Settings getSettings(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /** Changes all settings. An absent setting returns to its configured value. Returns the settings in effect. */
  Settings setSettings(1: string token, 2: Settings settings) throws (1: AdminRefused refused)

  list<Route> getRoutes(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /** Says what the route of a service does with a call, and why. Access rules are not asked. */
  RouteExplanation explainRoute(1: string token, 2: ImaginedCall imagined) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /**
   * Returns what the mirrors of routes have found: in this process, and in all managers.
   * @param serviceName '' for all services
   */
  MirrorReport getMirrors(1: string token, 2: string serviceName) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /**
   * Sets the weights of a service, and what else is set in the route; what is not set stays as it is. If nothing is set
   * and there are no weights, the route of the configuration applies again.
   * @param force also with versions that do not exist: for a route that is written before its deployment
   */
  void setRoute(1: string token, 2: Route route, 3: bool force = false) throws (1: AdminRefused refused)

  /** Returns the last changes of the route of a service, the newest first: the present one and at most 50 before. */
  list<RouteChange> getRouteHistory(1: string token, 2: string serviceName) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /**
   * Restores the route that a change has replaced. Changes since are undone too. This is a change by itself, so it can
   * be undone.
   * @param index of the change; 0 for the last one
   * @param force also with versions that do not exist any more
   */
  void undoRoute(1: string token, 2: string serviceName, 3: i64 index = 0, 4: bool force = false) throws (1: AdminRefused refused)

  /**
   * Creates an admin token and returns its value, which the mesh does not keep. Only a token with all scopes may do
   * this; the new one gets no role that the other one lacks, and lives no longer.
   */
  string createToken(1: string token, 2: string name, 3: list<string> scopes, 4: list<string> roles, 5: optional i64 expiresInMs) throws (1: AdminRefused refused)

  list<AdminToken> getTokens(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /** Makes a token invalid, at once and in every process. */
  void revokeToken(1: string token, 2: string name) throws (1: AdminRefused refused)

  /** Returns the access policy in force. */
  AccessPolicy getAccessPolicy(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /**
   * Replaces the access policy of the mesh, if `expectedVersion` is its current version. An empty text removes it.
   * Returns the new one.
   */
  AccessPolicy setAccessPolicy(1: string token, 2: string text, 3: i64 expectedVersion) throws (1: AdminRefused refused)

  /** Returns the current version of the policy and earlier ones, the newest first. */
  list<AccessPolicy> getAccessHistory(1: string token) throws (1: AdminRefused refused) (katamari.readonly = "true")

  /**
   * Says whether a caller with the given roles may call `Service.method` or `Service@version.method`, in pools with
   * the given roles, and why.
   */
  AccessDecision explainAccess(1: string token, 2: string caller, 3: list<string> roles, 4: string target, 5: list<string> poolRoles) throws (1: AdminRefused refused) (katamari.readonly = "true")
}
