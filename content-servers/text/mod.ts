// The builder of TextSearch shards, for the command `katamari index build`.

export { BuildError } from './build-input.ts';
export { type BuildProgress, buildShards, type BuildShardsOptions, type BuildShardsResult } from './builder.ts';
