/**
 * The admin service for sharded indices. Every faceplate serves it beside the service Katamari; each method needs an
 * admin token with its scope.
 */
include "katamari.thrift"

namespace * katamari

enum ReplicaState {
  FETCHING = 1
  OPENING = 2
  SERVING = 3
  LEAVING = 4
  /** The last try failed, and the next one waits. */
  BACKING_OFF = 5
}

/** One shard on one manager. */
struct ReplicaStatus {
  1: string manager
  2: ReplicaState state
  3: i64 bytesDone
  /** Of the last failure; '' for none. */
  4: string why
  /** Failures since it was served last. */
  5: i32 tries
  /** Time until the next try; 0 when none waits. */
  6: i64 nextTryInMs
}

struct ShardStatus {
  /** `part-00017` */
  1: string name
  2: i64 bytes
  /** Documents or records; 0 while unknown. */
  3: i64 entries
  4: list<ReplicaStatus> replicas
  /** Of the names, sizes and times of its files when the version was added. */
  5: string digest
}

enum IndexState {
  /** Not every shard has been served yet. */
  LOADING = 1
  /** Every shard has all its replicas. */
  COMPLETE = 2
  /** Every shard is served, some by fewer managers than wanted. */
  DEGRADED = 3
  /** Some shard is served by no manager. */
  INCOMPLETE = 4
}

struct IndexStatus {
  1: string name
  2: string version
  3: string source
  /** The content service that serves it, with a range: `Lucene@^1`. */
  4: string contentService
  5: i32 replicas
  /** Replicas of every shard with which the version gets the calls by itself; 0: never. */
  6: i32 promoteAtReplicas
  7: IndexState state
  /** What is missing and why, for people. */
  8: list<string> conditions
  /** Share of the calls that name no version, from 0 to 1. */
  9: double share
  10: i64 entries
  11: i64 bytes
  12: i32 shards
  /** Shards that some manager serves. */
  13: i32 served
  /** Time from `addIndex` until every shard was served; absent before. */
  14: optional i64 readyInMs
  15: i64 addedAtMs
  16: string addedBy
  /** In order of the names; empty unless they were asked for. */
  17: list<ShardStatus> shardList
  /** Bytes that the managers have fetched, of those that they are to hold. */
  18: i64 bytesDone
  19: i64 bytesWanted
  /** SHA-256 of the list of its shards. */
  20: string manifest
  /** Managers that serve the shard with the fewest. */
  21: i32 replicasServed
  /** Managers that may hold its shards now: a version has at most so many replicas. */
  22: i32 holders
  /** The only managers that may hold its shards; empty for any. */
  23: list<string> pinnedTo
}

struct NewIndex {
  1: required string name
  2: required string version
  /** URL of a folder of shards. */
  3: required string source
  /** Name of the content service, with a SemVer range: `Lucene@^1`. */
  4: required string contentService
  /** Absent: 2, or 1 while only one manager has the content service. */
  5: optional i32 replicas
  6: i32 promoteAtReplicas = 1
}

/** What a manager found in a source. */
struct SourceReport {
  1: i32 shards
  2: i64 bytes
  3: list<string> names
  4: list<string> warnings
  /** The manager that has looked. */
  5: string manager
  /** SHA-256 of the list of shards: equal lists of equal files have the same one. */
  6: string manifest
}

struct AddedIndex {
  1: IndexStatus status
  /** False when it was there already, with the same source. */
  2: bool isNew
  3: list<string> warnings
}

/** An index version after a change that was carried out. */
struct ChangedIndex {
  1: IndexStatus status
  /** What the operator should know, for people. */
  2: list<string> warnings
}

/** Shards that one manager would get. */
struct PlannedShards {
  1: string manager
  2: list<string> shards
  3: i64 bytes
}

struct PlacementReport {
  1: list<PlannedShards> managers
  /** What would be missing, for people. */
  2: list<string> conditions
}

enum IndexNodeState {
  UP = 1
  /** It has no living copy of the content service of any index, so it gets no shards. */
  NO_CONTENT_SERVICE = 2
  DRAINED = 3
  /** It shuts down. */
  LEAVING = 4
  /** It is registered, and does not answer over its link. */
  SILENT = 5
  /** It has gone, and has shards in its last order. */
  AWAY = 6
}

/** A manager as a holder of shards. */
struct IndexNode {
  1: string manager
  /** '' while unknown. */
  2: string machine
  3: IndexNodeState state
  /** Shards by their state. */
  4: i32 serving
  5: i32 fetching
  6: i32 backingOff
  /** Bytes of the shards that it has fetched. */
  7: i64 bytes
  /** Bytes of its disk that are left for shards; absent while unknown. */
  8: optional i64 freeBytes
  /** `name@version` of each version that it is to hold shards of. */
  9: list<string> indices
  /** What is wrong with it, for people: `is drained, so it gets no shards; ...`. */
  10: list<string> problems
}

/** A document as it stands in Consul, or the part of it that is about one index version. */
struct StoredDocument {
  1: string key
  2: i64 modifyIndex
  /** JSON, without the signature. */
  3: string text
  /** Why it is not used; '' when it is. */
  4: string problem
}

enum CheckState {
  WAITING = 1
  CHECKING = 2
  INTACT = 3
  /** A file is missing, or has another size or SHA-256 than when it was fetched: the replica was withdrawn. */
  DAMAGED = 4
  /** It could not be checked. */
  UNKNOWN = 5
}

/** The check of one shard on one manager. */
struct ReplicaCheck {
  /** `wiki@3.0.0/part-00017` */
  1: string shard
  2: string manager
  3: CheckState state
  4: i64 bytes
  5: i64 bytesDone
  /** What is damaged, or why it is unknown; '' for neither. */
  6: string why
  /** State of the replica now: fetching, opening, serving, leaving, backing_off, or gone. */
  7: string replica
}

/** A check of the files of an index on all managers. */
struct IndexCheck {
  1: string id
  /** In order of the shards, then of the managers. */
  2: list<ReplicaCheck> replicas
  /** Managers that have not answered. */
  3: list<string> silent
}

service KatamariIndices {
  /** Looks at a source as a manager with the content service sees it. Writes nothing. */
  SourceReport inspectSource(1: string token, 2: string source, 3: string contentService)
    throws (1: katamari.AdminRefused refused) (katamari.timeout = "90s")

  /** Says where the shards of an index would be placed. Writes nothing. */
  PlacementReport planIndex(1: string token, 2: NewIndex index) throws (1: katamari.AdminRefused refused)
    (katamari.timeout = "90s")

  /**
   * Inspects the source and adds the version. The same again changes nothing; a version with another source is refused.
   */
  AddedIndex addIndex(1: string token, 2: NewIndex index) throws (1: katamari.AdminRefused refused)
    (katamari.timeout = "90s")

  /** Sets the number of replicas. Warns when there are more than managers that can hold them now. */
  ChangedIndex setIndexReplicas(1: string token, 2: string name, 3: string version, 4: i32 replicas)
    throws (1: katamari.AdminRefused refused)

  /**
   * Keeps a version on these managers only, or on any for an empty list. Others keep what they serve of it until these
   * serve it.
   * @param force also with managers that are not known, because they are off
   */
  ChangedIndex pinIndex(1: string token, 2: string name, 3: string version, 4: list<string> managers,
    5: bool force = false) throws (1: katamari.AdminRefused refused)

  /**
   * Gives a version all calls that name none. Refused while a shard is served by nobody, unless forced. Warns when it
   * has less than the version that got them before, or is not whole.
   */
  ChangedIndex promoteIndex(1: string token, 2: string name, 3: string version, 4: bool force)
    throws (1: katamari.AdminRefused refused)

  /** Removes a version. Refused while it gets calls that name no version, unless it is the last one. */
  void removeIndex(1: string token, 2: string name, 3: string version) throws (1: katamari.AdminRefused refused)

  /**
   * Returns the versions of an index, or of all.
   * @param name '' for all
   */
  list<IndexStatus> getIndices(1: string token, 2: string name, 3: bool withShards)
    throws (1: katamari.AdminRefused refused) (katamari.readonly = "true")

  /** Returns the managers, and those that are away and have shards in their last order. */
  list<IndexNode> getIndexNodes(1: string token) throws (1: katamari.AdminRefused refused) (katamari.readonly = "true")

  /**
   * Returns the documents of a version: its record, the list of its shards, and the parts that are about it of the
   * orders and the holdings of each manager.
   */
  list<StoredDocument> getIndexDocuments(1: string token, 2: string name, 3: string version)
    throws (1: katamari.AdminRefused refused) (katamari.readonly = "true")

  /**
   * Has all managers check the files of the shards that they hold of an index against their SHA-256. Managers withdraw
   * damaged ones and fetch them again. Returns at once; `getVerification` tells the progress.
   * @param version '' for all
   * @param shard name of a shard within its version; '' for all
   */
  IndexCheck verifyIndex(1: string token, 2: string name, 3: string version, 4: string shard)
    throws (1: katamari.AdminRefused refused)

  /**
   * Returns what a check has found so far. Managers remember the last 16 checks until they restart.
   * @param id as `verifyIndex` has returned it
   */
  IndexCheck getVerification(1: string token, 2: string id) throws (1: katamari.AdminRefused refused)
    (katamari.readonly = "true")
}
