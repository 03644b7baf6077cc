// MapFileLookup: a content server for Hadoop MapFiles.

export { MAP_FILE_LIMITS, type MapFileLimits } from './limits.ts';
export { getMany, getOne, type LookupAnswer, type LookupLimits } from './lookup.ts';
export { MapFile } from './map-file.ts';
export { SegmentCache } from './segment-cache.ts';
