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
}
