// Reads the route of one service from a file of its own. It has the same form as in katamari.yaml, below `routes`.

import type { Route } from '../mesh/mod.ts';
import { describeIssue, type Problem } from './check.ts';
import { ExitError, EXIT } from './exit-error.ts';
import { keyText, parseConfigText } from './file.ts';
import { routesSchema } from './route-schema.ts';
import { z } from 'zod';

const FILE: z.ZodType<{ routes: Record<string, Route> }> = z.strictObject({ routes: routesSchema() });

/**
 * @param shown name of the file, for messages
 * @throws ExitError with exit code 78 that lists the problems with their lines
 */
export function readRouteFile(text: string, shown: string, service: string): Route {
  const file = parseConfigText(text, shown, '.');
  const checked = FILE.safeParse(file.values);
  if (!checked.success) {
    const problems = checked.error.issues.flatMap((issue): Problem[] => describeIssue(issue, file.values, file));
    const lines = problems.map(({ path, text }) => `${shown}:${file.lineOf(path)}: ${keyText(path)}: ${text}`);
    throw new ExitError(EXIT.badConfiguration, lines.slice(0, PROBLEMS_SHOWN_MAX).join('\n'));
  }
  const { routes } = checked.data;
  const route = Object.hasOwn(routes, service) ? routes[service] : undefined;
  if (route !== undefined) return route;
  const has = Object.keys(routes).join(', ') || 'none';
  throw new ExitError(EXIT.badConfiguration, `${shown}: found routes of ${has}, expected one of ${service}`);
}

const PROBLEMS_SHOWN_MAX = 20;
