import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { defaultOf, unwrap } from '../../../services/config/schema-leaves.ts';
import { configSchema } from '../../../services/config/schema.ts';

/**
 * All keys of the schema in the notation of docs/configuration.md, with their documented default; undefined if there
 * is none.
 */
function keysOf(schema: z.ZodType, path: string): { key: string; defaultValue: unknown }[] {
  const inner = unwrap(schema);
  if (inner instanceof z.ZodObject) {
    return Object.entries(inner.shape).flatMap(([key, below]) =>
      keysOf(below as z.ZodType, path === '' ? key : `${path}.${key}`),
    );
  }
  if (inner instanceof z.ZodArray && unwrap(inner.element as z.ZodType) instanceof z.ZodObject) {
    return keysOf(inner.element as z.ZodType, `${path}[]`);
  }
  if (inner instanceof z.ZodRecord && unwrap(inner.valueType as z.ZodType) instanceof z.ZodObject) {
    return keysOf(inner.valueType as z.ZodType, `${path}.<service>`);
  }
  return [{ key: path, defaultValue: defaultOf(schema) }];
}

describe('docs/configuration.md', () => {
  const page = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8');
  const keys = keysOf(configSchema, '');
  const rows = new Map(
    [...page.matchAll(/^\| `([^`]+)` \| ([^|]+) \|([^|]*)\|/gm)].map(([, key, , value]) => [key, value?.trim() ?? '']),
  );

  test('has a row for every key of the configuration, with its default', () => {
    expect(keys.length).toBeGreaterThan(50);
    for (const { key, defaultValue } of keys) {
      expect([key, rows.has(key)]).toEqual([key, true]);
      if (defaultValue === undefined) continue;
      const shown = typeof defaultValue === 'string' ? defaultValue : JSON.stringify(defaultValue);
      expect([key, rows.get(key)]).toEqual([key, shown === '' ? 'none' : expect.stringContaining(`\`${shown}\``)]);
    }
  });

  test('has no row for a key that does not exist', () => {
    const known = new Set([...keys.map(({ key }) => key), 'routes']);
    expect([...rows.keys()].filter((key) => !known.has(key as string))).toEqual([]);
  });
});
