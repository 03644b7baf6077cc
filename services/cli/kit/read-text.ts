// Reads a file that is named on the command line.

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
