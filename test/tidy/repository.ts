// The repository as the house rules see it: its files, without what is built, installed or somebody's scratch.

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from '../kit/tools/tools.ts';

/** Rooms that make the product. */
export const ROOMS: readonly string[] = ['chassis-sdk', 'services', 'faceplates'];

/** Files below a folder of the repository, as paths from its root with `/`, in order. */
export function filesBelow(folder: string): string[] {
  return readdirSync(path.join(REPOSITORY, folder), { withFileTypes: true })
    .flatMap((entry) => {
      const below = folder === '' ? entry.name : `${folder}/${entry.name}`;
      return entry.isDirectory() ? filesBelow(below) : [below];
    })
    .sort();
}

/** Source files of the rooms named. */
export function sourcesOf(folders: readonly string[]): string[] {
  return folders.flatMap(filesBelow).filter((file) => /\.(ts|js|mjs)$/.test(file));
}

/** Markdown pages: those in the root and those in docs/. */
export function pages(): string[] {
  const inRoot = readdirSync(REPOSITORY).filter((name) => name.endsWith('.md'));
  return [...inRoot, ...filesBelow('docs').filter((file) => file.endsWith('.md'))];
}

export function read(file: string): string {
  return readFileSync(path.join(REPOSITORY, file), 'utf8');
}
