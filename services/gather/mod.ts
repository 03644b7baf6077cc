// Exports of services/gather; other modules import only from here.

export { GATHER_RESULTS } from './gather-counts.ts';
export { Gatherer } from './gatherer.ts';
