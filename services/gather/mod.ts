// Exports of services/gather; other modules import only from here.

export { Gatherer } from './gatherer.ts';
