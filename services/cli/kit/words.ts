// Reads what the words of a command line name: files, and lists with commas.

import { readFileSync } from 'node:fs';
import { ExitError, EXIT } from '../../config/mod.ts';

/** @param shown its name, for the message @throws ExitError with exit code 2 when it cannot be read */
export function readText(file: string, shown: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new ExitError(EXIT.usage, `${shown}: cannot be read: ${(error as Error).message}`, error);
  }
}

/** The items of a list with commas. */
export function listOf(text = ''): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}
