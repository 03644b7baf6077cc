// A validator for the OpenRPC meta-schema, which comes from its own package.

import { createRequire } from 'node:module';
import { Ajv } from 'ajv';
import type { AnySchema, ValidateFunction } from 'ajv';

/**
 * The meta-schema refers to a JSON Schema dialect that is a document on the web. It accepts what draft 7 accepts, so
 * draft 7 takes its name here. The one reference into that document is replaced: a reference is a string.
 */
export function openRpcValidator(): ValidateFunction {
  const require = createRequire(import.meta.url);
  const metaSchema = (require('@open-rpc/meta-schema') as { default: Record<string, unknown> }).default;
  const draft7 = JSON.stringify(require('ajv/dist/refs/json-schema-draft-07.json'));
  const dialect = 'https://meta.json-schema.tools';
  const ajv = new Ajv({ strict: false, validateFormats: false });
  ajv.addSchema({ ...(JSON.parse(draft7) as Record<string, unknown>), $id: dialect });
  const text = JSON.stringify({ ...metaSchema, $schema: undefined });
  const filled = text.replaceAll(
    `{"$ref":"${dialect}/#/definitions/JSONSchemaObject/properties/$ref"}`,
    '{"type":"string"}',
  );
  return ajv.compile(JSON.parse(filled) as AnySchema);
}
