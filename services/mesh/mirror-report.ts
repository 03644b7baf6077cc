// What mirrors have found, as the admin service and the managers tell it (struct MirrorReport in idl/katamari.thrift).

/** How the copies of calls of one method ended. */
export interface MirrorCount {
  readonly serviceName: string;
  /** The version that gets the copies. */
  readonly version: string;
  readonly method: string;
  equal: number;
  different: number;
  /** The copy got no answer. */
  failed: number;
  /** The call was not copied, or the answers were not compared: no free place, too large, too many at once. */
  skipped: number;
}

/** How many answers of a method differ at a path. */
export interface MirrorPathCount {
  readonly serviceName: string;
  readonly version: string;
  readonly method: string;
  readonly path: string;
  calls: number;
}

/** A call whose two answers differ. */
export interface MirrorDifference {
  readonly atMs: number;
  readonly serviceName: string;
  readonly method: string;
  /** The version whose answer the caller got. */
  readonly version: string;
  readonly answer: string;
  /** The version that got the copy. */
  readonly mirrorVersion: string;
  readonly mirrorAnswer: string;
  /** Short JSON text of the arguments. */
  readonly parameters: string;
  readonly places: readonly MirrorPlace[];
}

/** A value that differs, as short JSON text; '' where there is none. */
export interface MirrorPlace {
  /** Path without positions: `hits[].score`. */
  readonly path: string;
  /** The first place on that path: `hits[3].score`. */
  readonly at: string;
  readonly answer: string;
  readonly mirrorAnswer: string;
}

export interface MirrorReport {
  readonly counts: readonly Readonly<MirrorCount>[];
  readonly paths: readonly Readonly<MirrorPathCount>[];
  /** The latest last. */
  readonly differences: readonly MirrorDifference[];
  /** Managers that could not be asked. */
  readonly missing: readonly string[];
}

/** Adds up the reports of several processes. */
export function mergeMirrorReports(reports: readonly MirrorReport[]): MirrorReport {
  const counts = new Map<string, MirrorCount>();
  for (const one of reports.flatMap((report) => report.counts)) {
    const key = JSON.stringify([one.serviceName, one.version, one.method]);
    const sum = counts.get(key);
    if (sum === undefined) counts.set(key, { ...one });
    else {
      sum.equal += one.equal;
      sum.different += one.different;
      sum.failed += one.failed;
      sum.skipped += one.skipped;
    }
  }
  const paths = new Map<string, MirrorPathCount>();
  for (const one of reports.flatMap((report) => report.paths)) {
    const key = JSON.stringify([one.serviceName, one.version, one.method, one.path]);
    const sum = paths.get(key);
    if (sum === undefined) paths.set(key, { ...one });
    else sum.calls += one.calls;
  }
  const differences = reports.flatMap((report) => report.differences).sort((a, b) => a.atMs - b.atMs);
  const missing = reports.flatMap((report) => report.missing);
  return { counts: [...counts.values()], paths: [...paths.values()], differences, missing };
}
