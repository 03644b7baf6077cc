// Properties of every text that the Thrift compiler accepts: it means the same to us as to the compiler, and so does
// the canonical text that we write of it.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseIdl, type Idl } from '../../../core/idl/mod.ts';
import { anyDefinitions } from '../../kit/interfaces/any-definitions.ts';
import { judge, meaningOf } from '../../kit/interfaces/idl-judge.ts';

function parse(text: string): Idl {
  return parseIdl({ main: 'main.thrift', files: { 'main.thrift': text } });
}

describe('any definitions', () => {
  test('mean the same to us as to the Thrift compiler, and so does their canonical text', () => {
    fc.assert(
      fc.property(anyDefinitions, (text) => {
        const idl = parse(text);
        const judgement = judge({ 'main.thrift': text });
        expect(judgement.verdict === 'refuses' ? judgement.says : 'takes').toBe('takes');
        expect(meaningOf(idl)).toEqual(judgement.meaning);
        const service = idl.services.get('S');
        const canonical = service?.canonical ?? '';
        const again = parse(canonical);
        expect(again.services.get('S')?.id).toBe(service?.id);
        const judged = judge({ 'main.thrift': canonical });
        expect(judged.verdict === 'refuses' ? judged.says : 'takes').toBe('takes');
        expect(meaningOf(again)).toEqual(judged.meaning);
        // The canonical text has the same types; only aliases are gone.
        for (const [name, struct] of again.structs) {
          expect(meaningOf(again).structs[name]?.fields).toHaveLength(idl.structs.get(name)?.fields.length ?? -1);
          expect(struct.kind).toBe(idl.structs.get(name)?.kind);
        }
      }),
      { numRuns: 120 },
    );
  });
});
