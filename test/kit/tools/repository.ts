// Where the repository is.

import { fileURLToPath } from 'node:url';

/** Root of the repository, with a slash at the end; this file may be the built one. */
export const REPOSITORY: string = fileURLToPath(
  new URL(import.meta.url.includes('/dist/test/kit/tools/') ? '../../../../' : '../../../', import.meta.url),
);
