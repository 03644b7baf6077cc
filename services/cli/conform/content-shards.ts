// The shards that `katamari conform` opens: those that the command names, or those that it makes for a chassis that
// implements idl/content_conformance.thrift. All are below the folder of the run, or symbolic links from there.

import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { ContentShards } from './content-calls.ts';

/** Shards of idl/content_conformance.thrift. */
export interface MadeShards extends ContentShards {
  readonly damaged: string;
  /** `open` takes SLOW_MS. */
  readonly slow: string;
  readonly refused: string;
}

/** @param folder an absolute path of a folder that exists */
export function namedShards(folder: string, good: string, damaged: string | undefined): ContentShards {
  return {
    // As the kernel names the files that a process has open.
    good: realpathSync(good),
    sameElsewhere: linked(folder, good),
    damaged,
    missing: path.join(folder, 'nothing-is-here'),
  };
}

/** Writes the shards. */
export function makeShards(folder: string): MadeShards {
  const made = path.join(realpathSync(folder), 'made');
  mkdirSync(made);
  const write = (name: string, lines: readonly string[]): string => {
    const file = path.join(made, name);
    writeFileSync(file, lines.map((line) => `${line}\n`).join(''));
    return file;
  };
  const good = write('good', ['entries 3']);
  return {
    ...namedShards(made, good, undefined),
    damaged: write('damaged', ['entries 3', `damaged ${WHY_DAMAGED}`]),
    slow: write('slow', ['entries 4', `slow ${SLOW_MS}`]),
    refused: write('refused', [`refused ${WHY_REFUSED}`]),
  };
}

function linked(folder: string, target: string): string {
  const link = path.join(folder, 'same-elsewhere');
  symlinkSync(target, link);
  return link;
}

const SLOW_MS = 1_000;
export const WHY_DAMAGED = 'the checksum of page 7 differs';
export const WHY_REFUSED = 'version 9, this server reads 1 to 8';
