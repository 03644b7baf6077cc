// The schema of routes, in katamari.yaml and in the file of `katamari route --file`.

import { ARGUMENT_PATH } from '../../core/idl/mod.ts';
import {
  COPIED_METHOD,
  HEDGE_VALUE,
  HEDGE_OR_OFF,
  MAJORITY_OR_OFF,
  MAJORITY_VALUE,
  RULE_HEADER,
  RULE_NAME,
  type Route,
  type RouteMirror,
  type RouteRule,
} from '../mesh/mod.ts';
import { bool, count, leaf, SERVICE, text, VERSION, VERSION_EXPECTED } from './schema-leaves.ts';
import { z } from 'zod';

const names = (what: string): z.ZodArray<z.ZodString> =>
  leaf(z.array(z.string().min(1).max(1_000)).min(1).max(10_000), 'list', `a list of ${what}`);

const ruleSchema: z.ZodType<RouteRule> = z.strictObject({
  name: leaf(z.string().regex(RULE_NAME), 'text', 'a name of letters, digits, ".", "_" and "-"'),
  to: leaf(z.string().regex(VERSION), 'text', VERSION_EXPECTED),
  callers: names('names of callers').optional(),
  roles: names('roles of callers').optional(),
  headers: z
    .record(leaf(z.string().regex(RULE_HEADER), 'text', 'the name of a header in lower case, not of the mesh'), text())
    .optional(),
  tags: names('tags').optional(),
  methods: names('methods').optional(),
  keys: names('sticky keys').optional(),
  share: leaf(z.number().min(0).max(100), 'number', 'a percentage, 0 to 100').optional(),
});

const mirrorSchema: z.ZodType<RouteMirror> = z.strictObject({
  to: leaf(z.string().regex(VERSION), 'text', VERSION_EXPECTED),
  share: leaf(z.number().min(0).max(100), 'number', 'a percentage, 0 to 100').optional(),
  methods: names('methods').optional(),
  force: bool().optional(),
  ignore: names('paths in answers such as "hits[].score"').optional(),
  tolerance: leaf(z.number().min(0).max(1), 'number', 'a part of a number, 0 to 1').optional(),
});

const byMethod = (form: RegExp, expected: string): z.ZodRecord<z.ZodString, z.ZodString> =>
  z.record(
    leaf(z.string().regex(COPIED_METHOD), 'text', 'the name of a method, or *'),
    leaf(z.string().regex(form), 'text', expected),
  );

const routeSchema: z.ZodType<Route> = z.strictObject({
  weights: z.record(leaf(z.string().regex(VERSION), 'text', VERSION_EXPECTED), count(0, 1_000_000)).prefault({}),
  rules: z.array(ruleSchema).max(100).optional(),
  experiment: leaf(z.string().min(1).max(100), 'text', 'a name').optional(),
  fallback: leaf(
    z.string().regex(new RegExp(`^others$|^fail$|${VERSION.source}`)),
    'text',
    '"others", "fail" or a version in quotes',
  ).optional(),
  callersChoose: bool().optional(),
  mirror: mirrorSchema.optional(),
  hedge: byMethod(HEDGE_OR_OFF, HEDGE_VALUE).optional(),
  majority: byMethod(MAJORITY_OR_OFF, MAJORITY_VALUE).optional(),
  sticky: leaf(z.string().regex(ARGUMENT_PATH), 'text', 'the path of an argument such as args.user.id').optional(),
});

export const routesSchema = (): z.ZodPrefault<z.ZodRecord<z.ZodString, typeof routeSchema>> =>
  z.record(leaf(z.string().regex(SERVICE), 'text', 'the name of a Thrift service'), routeSchema).prefault({});
