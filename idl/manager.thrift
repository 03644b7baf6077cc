/**
 * The control service of a resource manager on its link: status, events, and operator commands that a faceplate
 * forwards. Its multiplexed name is `katamari.Manager`. Only processes of the mesh can call it.
 */
include "katamari.thrift"

namespace * katamari

/** Shards of one index version that a manager serves. */
struct Holding {
  /** `name@version` */
  1: string indexVersion
  /** Places of the shards in the list of all shards of the version, from 0: `0-31,64`. */
  2: string places
  /** The content service that has them open, an exact version. */
  3: string serviceName
  4: string serviceVersion
  /** SHA-256 of the list of all shards of the version: a version that was removed and added anew has another one. */
  5: string manifest
}

/** A shard that a manager is to serve and does not, because something failed. */
struct UnservedShard {
  /** `name@version` */
  1: string indexVersion
  /** Its place in the list of all shards of the version, from 0. */
  2: i32 place
  3: string why
}

/** All holdings of a manager at one moment. */
struct Holdings {
  /** Grows with every change. It starts anew when the manager restarts. */
  1: i64 seq
  /** Differs after every start of the manager. */
  2: string start
  3: list<Holding> holdings
  /** At most 20. */
  4: list<UnservedShard> failed
}

/** A shard of an index on this manager. */
struct Replica {
  /** `name@version/shard` */
  1: string shard
  /** fetching, opening, serving, leaving or backing_off. */
  2: string state
  3: i64 bytes
  4: i64 bytesDone
  /** Documents or records; 0 while unknown. */
  5: i64 entries
  /** Of the last failure; '' for none. */
  6: string why
  7: i32 tries
  8: i64 nextTryInMs
}

struct SourceShard {
  1: string name
  2: i64 bytes
  3: string digest
}

struct SourceListing {
  1: list<SourceShard> shards
  2: list<string> warnings
}

/** A check of the files of a shard on this manager. */
struct ShardCheck {
  /** `name@version/shard` */
  1: string shard
  /** waiting, checking, intact, damaged or unknown. */
  2: string state
  3: i64 bytes
  4: i64 bytesDone
  /** What is damaged, or why it is unknown; '' for neither. */
  5: string why
  /** State of the replica as in Replica, or gone. */
  6: string replica
}

/** What the calls of one method have come to that the weights of a route have led to one version. */
struct VersionCount {
  1: string serviceName
  2: string version
  3: string method
  /** Number of the change of the route since which it counts. */
  4: i64 splitIndex
  /** In ms since 1970. */
  5: i64 sinceMs
  /** All that have ended. */
  6: i64 calls
  /** Those of them that were answered with a declared exception. */
  7: i64 exceptions
  8: i64 failures
  9: i64 timeouts
  10: i64 refusals
  11: i64 cancelled
  /** Histogram of durations: pairs of a step from the bucket before and a count; 64 buckets for each doubling. */
  12: list<i64> durations
  /** The same of the time that the answered calls have waited for a copy. */
  13: list<i64> queueing
}

/** The values of one metric that callers have reported for one version. */
struct OutcomeCount {
  1: string serviceName
  2: string version
  3: string metric
  4: i64 splitIndex
  5: i64 sinceMs
  6: i64 count
  7: double sum
  8: double sumOfSquares
  /** Values that were neither 0 nor 1. */
  9: i64 others
}

/** What one process has counted of one service. */
struct VersionReport {
  1: string serviceName
  2: string process
  /** Differs for each start of the process. */
  3: string start
  /** Rises with each report of a process. */
  4: i64 seq
  5: list<VersionCount> counts
  6: list<OutcomeCount> outcomes
  7: katamari.MirrorReport mirrors
}

/** The manager cannot do what was asked; `why` says what to change. */
exception ManagerRefused {
  1: string why
}

service Manager {
  katamari.MeshStatus status() (katamari.readonly = "true")

  /** Returns the manager's own events after `afterSeq`, oldest first. Waits up to `waitMs` for the first one. */
  list<katamari.Event> events(1: i64 afterSeq, 2: i32 waitMs) (katamari.readonly = "true")

  /**
   * Restarts the pools of a service one resource at a time; version '' means all versions. Returns the number of
   * replaced resources.
   */
  i32 roll(1: string serviceName, 2: string version)

  /**
   * Returns the holdings of the manager. Waits up to `waitMs` while `start` and `afterSeq` are those of the current
   * holdings.
   */
  Holdings holdings(1: string start, 2: i64 afterSeq, 3: i32 waitMs) (katamari.readonly = "true")

  /**
   * Returns the shards that the manager is to hold.
   * @param index name of an index; '' for all
   */
  list<Replica> replicas(1: string index) (katamari.readonly = "true")

  /** Lists the shards of a source, without fetching them. */
  SourceListing inspect(1: string source) throws (1: ManagerRefused refused) (katamari.readonly = "true")

  /**
   * Starts to check the files of the shards that the manager has of an index against their SHA-256. The same id again
   * starts nothing.
   * @param version '' for all
   * @param shard name of a shard within its version; '' for all
   */
  list<ShardCheck> verify(1: string id, 2: string index, 3: string version, 4: string shard)

  /** Returns what the check with this id has found so far; empty for an unknown one. */
  list<ShardCheck> verification(1: string id) (katamari.readonly = "true")

  /** Keeps what a faceplate has counted of a service. Who asks all managers then knows of all faceplates. */
  void observe(1: VersionReport report)

  /** Returns what this process has counted of a service, and what faceplates have told it; '' for all services. */
  list<VersionReport> observations(1: string serviceName) (katamari.readonly = "true")

  /** Replaces the resource with this name: `Service@version/index`. */
  void restart(1: string resource)
}
