// The door of the stats faceplate.

export { startStatsFaceplate, type StatsFaceplate } from './faceplate.ts';
export type { MetricFamily } from './metrics.ts';
export type { PoolCallStats } from './sources.ts';
