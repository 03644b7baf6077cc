// The arguments that help shows as an example.

import { describe, expect, test } from 'vitest';
import { parseIdl, readIdlFile } from '../../../../core/idl/mod.ts';
import type { Method } from '../../../../core/thrift/mod.ts';
import { exampleParams } from '../../../../services/cli/kit/method-help.ts';

function methodOf(file: string, service: string, name: string): Method {
  const { services } = parseIdl(readIdlFile(new URL(`../../../../${file}`, import.meta.url)));
  return services.get(service)?.methods.get(name) as Method;
}

describe('exampleParams()', () => {
  test('leaves out what callers of an index leave out', () => {
    expect(exampleParams(methodOf('idl/search.thrift', 'TextContent', 'count'))).toEqual({ query: 'hello' });
    expect(exampleParams(methodOf('idl/lookup.thrift', 'MapContent', 'get'))).toEqual({ key: 'aGVsbG8=' });
  });

  test('has all arguments of another method', () => {
    expect(exampleParams(methodOf('examples/calculator.thrift', 'Calculator', 'add'))).toEqual({ num1: 2, num2: 40 });
  });
});
