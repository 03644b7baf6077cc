/**
 * The admin service for versions that run side by side. Every faceplate serves it beside the service Katamari; each
 * method needs an admin token with its scope.
 */
include "katamari.thrift"

namespace * katamari

/** How a version gets the calls of another one in steps. */
struct RolloutPlan {
  1: string serviceName
  /** The new version. */
  2: string toVersion
  /** The version that gives up its calls; '' for the one with the highest weight. */
  3: string fromVersion = ""
  /** Percentages of the calls of both, rising to 100. */
  4: list<double> steps
  /** How long each share is held. */
  5: i64 holdMs
  /** How long the copies of the old version stay after the last step. */
  6: i64 keepMs
  /** How long the copies for a step may take to come up. */
  7: i64 startMs
  /** `errors +0.5pt`, `p99 x1.3`, `queue p99 x2`, `diff < 1%` */
  8: list<string> guards
  /** Whether the number of copies follows the share. */
  9: bool copiesFollow = false
}

enum RolloutState {
  RUNNING = 1
  PAUSED = 2
  DONE = 3
  /** A guard was violated, or copies did not come up. */
  REVERTED = 4
  /** An operator has ended it. */
  ABORTED = 5
}

struct RolloutGuard {
  1: string guard
  2: bool isViolated
  /** What it sees now, for people; '' while there is nothing to compare. */
  3: string text
}

/** A step that was held to the end. */
struct RolloutStep {
  1: double share
  /** In ms since 1970. */
  2: i64 atMs
  /** What each guard saw. */
  3: list<string> verdicts
}

struct RolloutStatus {
  1: RolloutPlan plan
  /** Name of the admin token. */
  2: string startedBy
  3: i64 startedAtMs
  4: RolloutState state
  /** Why it is paused or has ended; '' while it runs. */
  5: string reason
  /** Position of the present step, from 0. */
  6: i32 step
  /** Whether the new version has the share of the step; else its copies are started. */
  7: bool isHolding
  /** The share that the new version has, in percent. */
  8: double share
  /** When the step was begun or its share was set, or when the rollout ended. */
  9: i64 sinceMs
  /** What comes next, for people. */
  10: string waitsFor
  11: list<RolloutGuard> guards
  12: list<RolloutStep> passed
  /** Calls that the weights have led to the new version, and those of them that went wrong. */
  13: i64 calls
  14: i64 badCalls
  /** The master that carries it out; '' if none leads. */
  15: string leader
  16: list<string> notes
}

enum RolloutAction {
  /** Keeps the share as it is. The guards still watch it. */
  PAUSE = 1
  RESUME = 2
  /** Goes to the last step without holding those between. */
  PROMOTE = 3
  /** Gives the calls back to the old version. */
  ABORT = 4
}

/** What the calls to one version have come to. */
struct VersionFigures {
  1: string version
  /** All that have ended. */
  2: i64 calls
  /** Those of them that were answered with a declared exception. */
  3: i64 exceptions
  /** Answered with an undeclared exception, or failed while they ran. */
  4: i64 failures
  5: i64 timeouts
  /** Refused: the queue was full, or the copies were about to stop. */
  6: i64 refusals
  /** The caller has gone. */
  7: i64 cancelled
  /** Durations of the calls that were answered or timed out, as the callers' faceplate saw them; absent without any. */
  8: optional double p50Ms
  9: optional double p90Ms
  10: optional double p99Ms
  /** Time that the answered calls waited for a copy. */
  11: optional double queueP50Ms
  12: optional double queueP99Ms
  /** Histogram of the durations: pairs of a step from the bucket before and a count; 64 buckets for each doubling. */
  13: list<i64> durations
}

/** The comparison of one metric. It holds however often somebody looks. */
struct Verdict {
  /** `errors`, `exceptions`, `p50`, `p99`, `queue p99`, or the name of an outcome. */
  1: string metric
  /** Rates are from 0 to 1, times in ms; absent without calls. */
  2: optional double first
  3: optional double second
  /** Interval of the difference; of times, of the ratio second / first. Absent where it has no end. */
  4: optional double low
  5: optional double high
  /** Whether the interval excludes equality. */
  6: bool isDifferent
  /** `2.0.0 fails more often: 3.1 % against 1.2 % (difference 1.3 to 2.5 points, 99 %)` */
  7: string text
}

struct MethodComparison {
  /** '' for all methods together. */
  1: string method
  2: VersionFigures first
  3: VersionFigures second
  /** Empty for all but the 20 methods that are called most. */
  4: list<Verdict> verdicts
}

/** What callers have reported of one metric (`katamari.Mesh.outcome`). */
struct OutcomeComparison {
  1: string metric
  2: i64 firstCount
  3: i64 secondCount
  4: Verdict verdict
}

struct VersionComparison {
  1: string serviceName
  2: string first
  3: string second
  /** Number of the change of the route since which calls are compared; 0 for the route of the configuration. */
  4: i64 splitIndex
  /** In ms since 1970; absent while nothing was counted. */
  5: optional i64 sinceMs
  /** All methods together, then each. */
  6: list<MethodComparison> methods
  7: list<OutcomeComparison> outcomes
  /** Managers that could not be asked. */
  8: list<string> missing
}

service KatamariVersions {
  /**
   * Begins a rollout. Refused while another one of the service is under way, and if callers of the old version cannot
   * call the new one.
   * @param force also if they cannot
   */
  RolloutStatus startRollout(1: string token, 2: RolloutPlan plan, 3: bool force = false)
    throws (1: katamari.AdminRefused refused) (katamari.timeout = "30s")

  /**
   * The last rollout of each service, or the one under way.
   * @param serviceName '' for all
   */
  list<RolloutStatus> getRollouts(1: string token, 2: string serviceName = "")
    throws (1: katamari.AdminRefused refused) (katamari.readonly = "true", katamari.timeout = "30s")

  RolloutStatus changeRollout(1: string token, 2: string serviceName, 3: RolloutAction action)
    throws (1: katamari.AdminRefused refused) (katamari.timeout = "30s")

  /**
   * Compares the calls that the weights of a route have led to two versions, since the route last changed which calls
   * a version gets.
   * @param first '' for the version with the highest weight
   * @param second '' for the one with the next highest weight
   */
  VersionComparison compareVersions(1: string token, 2: string serviceName, 3: string first = "", 4: string second = "") throws (1: katamari.AdminRefused refused) (katamari.readonly = "true", katamari.timeout = "30s")
}
