// The door of faceplates/stats: what other rooms may import.

export { startStatsFaceplate } from './faceplate.ts';
export type { MetricFamily } from './metric-family.ts';
