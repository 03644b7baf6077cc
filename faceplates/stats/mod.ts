// The stats faceplate: metrics, status, health checks and the dashboard over HTTP. Other modules import only
// from here.

export { startStatsFaceplate } from './faceplate.ts';
export {
  runLengths,
  SHARD_LETTERS,
  type IndexOverview,
  type IndicesOverview,
  type ManagerShards,
} from './index-overview.ts';
export type { MetricFamily } from './metric-family.ts';
export type {
  ComparedPart,
  OperatorAnswer,
  OperatorRequest,
  RefusedStatus,
  ShownChange,
  ShownMirror,
  ShownRoute,
  VersionShare,
  VersionSource,
  VersionsView,
} from './version-source.ts';
