// Builds the Java kit, its examples, and the test chassis in Java, as a user does.

import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { builtOnce } from './built-once.ts';
import { REPOSITORY } from './repository.ts';
import { toolPath } from './tools.ts';

/** Timeout for hooks that build: a busy machine takes a minute. */
export const JAVA_BUILD_MS = 240_000;

export const JAVA_EXAMPLES: string = path.join(REPOSITORY, 'chassis-sdk', 'java', 'examples');

/** Returns the command that starts a program of the tests: `ConformanceChassis`, `ShopChassis`... */
export async function javaPrograms(): Promise<(name: string) => string[]> {
  const fixtures = 'test/fixtures/chassis';
  const idl = ['idl/conformance.thrift', 'idl/content_conformance.thrift'];
  const folder = await builtOnce('java', ['chassis-sdk/java', `${fixtures}/java`, ...idl], async (into) => {
    const generated = ['--gen', 'java:generated_annotations=suppress', '-o', into];
    for (const file of idl) await run('thrift', [...generated, path.join(REPOSITORY, file)]);
    await run('sh', [path.join(JAVA_EXAMPLES, 'build.sh'), into], { THRIFT: toolPath('thrift') });
    const compiler = ['-nowarn', '-encoding', 'UTF-8', '-cp', path.join(into, 'katamari-chassis.jar')];
    const sources = ['ConformanceChassis', 'ContentConformanceChassis'].map((name) => `${fixtures}/java/${name}.java`);
    const places = ['-sourcepath', path.join(into, 'gen-java'), '-d', path.join(into, 'classes')];
    await run('javac', [...compiler, ...places, ...sources.map((file) => path.join(REPOSITORY, file))]);
  });
  const classPath = [path.join(folder, 'classes'), path.join(folder, 'katamari-chassis.jar')].join(path.delimiter);
  // A small heap and a simple collector: tests run several of these at once.
  return (name) => [toolPath('java'), '-Xmx256m', '-XX:+UseSerialGC', '-cp', classPath, name];
}

async function run(tool: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<void> {
  try {
    const options = { timeout: JAVA_BUILD_MS, maxBuffer: 2 ** 26, env: { ...process.env, ...env } };
    await promisify(execFile)(toolPath(tool), args, options);
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`${tool} ${args.join(' ')} failed:\n${stdout ?? ''}${stderr ?? ''}`, { cause: error });
  }
}
