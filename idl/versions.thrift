/**
 * The admin service for versions that run side by side. Every faceplate serves it beside the service Katamari; each
 * method needs an admin token with its scope.
 */
include "katamari.thrift"

namespace * katamari

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
   * Compares the calls that the weights of a route have led to two versions, since the route last changed which calls
   * a version gets.
   * @param first '' for the version with the highest weight
   * @param second '' for the one with the next highest weight
   */
  VersionComparison compareVersions(1: string token, 2: string serviceName, 3: string first = "", 4: string second = "") throws (1: katamari.AdminRefused refused) (katamari.readonly = "true", katamari.timeout = "30s")
}
