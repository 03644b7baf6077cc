// The path of the repository.

import { fileURLToPath } from 'node:url';

/** Root of the repository, with a trailing slash. This file may be the compiled one. */
export const REPOSITORY: string = fileURLToPath(
  new URL(import.meta.url.includes('/dist/test/kit/tools/') ? '../../../../' : '../../../', import.meta.url),
);
