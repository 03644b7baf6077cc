// Builds the programs of the matrix: the code that the Thrift compiler generates for each language, and the compiled
// clients and servers. They are cached in node_modules/.cache under a hash of all their inputs, so only the first run
// after a change compiles (half a minute of C++).

import { createHash } from 'node:crypto';
import { execFile } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { MATRIX, MIRROR_IDL } from './calls.ts';
import { REPOSITORY } from '../tools/repository.ts';
import { toolPath } from '../tools/tools.ts';

const CACHE = path.join(REPOSITORY, 'node_modules', '.cache', 'katamari-matrix');
const JARS = ['thrift.jar', 'slf4j-api.jar', 'httpclient.jar', 'httpcore.jar'].map((name) => `/usr/share/java/${name}`);
const CPP_FLAGS = ['-std=c++17', '-O0', '-pipe', '-w', '-DKATAMARI_VERSION="0.1.0"'];
const GENERATORS = ['py', 'rb', 'cpp:no_skeleton', 'java:generated_annotations=suppress', 'perl', 'js:node,es6'];

/** The folder with the generated code: gen-py, gen-rb, gen-cpp, gen-java, gen-perl, gen-nodejs. */
export function generatedCode(): Promise<string> {
  return made('generated', [MIRROR_IDL, path.join(MATRIX, 'ancestor.thrift')], async (folder) => {
    for (const language of GENERATORS) {
      await run(toolPath('thrift'), ['-nowarn', '-r', '-o', folder, '--gen', language, MIRROR_IDL]);
    }
    // The structs of arguments and results are for the client's own use, so it has to be asked for them.
    writeFileSync(path.join(folder, 'gen-nodejs', 'package.json'), '{"type":"commonjs"}');
    for (const name of ['Mirror', 'Ancestor']) {
      const file = path.join(folder, 'gen-nodejs', `${name}.js`);
      const structs = [...readFileSync(file, 'utf8').matchAll(/^const (\w+_(?:args|result)) = class/gm)];
      appendFileSync(file, `\nexports.structs = { ${structs.map(([, found]) => found).join(', ')} };\n`);
    }
  });
}

/** The folder with the Java client: `java -cp JARS:FOLDER Client`. */
export async function javaClient(): Promise<{ readonly classPath: string }> {
  const generated = await generatedCode();
  const source = path.join(MATRIX, 'clients', 'Client.java');
  const folder = await made('java', [source, ...filesBelow(path.join(generated, 'gen-java'))], async (classes) => {
    const files = filesBelow(path.join(generated, 'gen-java'));
    await run(toolPath('javac'), [
      '-nowarn',
      '-Xlint:none',
      '-proc:none',
      '-d',
      classes,
      '-cp',
      JARS.join(':'),
      source,
      ...files,
    ]);
  });
  return { classPath: [...JARS, folder].join(':') };
}

/** The command of the Java chassis, with the kit. */
export async function javaChassis(): Promise<readonly string[]> {
  const generated = filesBelow(path.join(await generatedCode(), 'gen-java'));
  const source = path.join(MATRIX, 'servers', 'KitMirror.java');
  const kit = path.join(REPOSITORY, 'chassis-sdk', 'java');
  const kitFiles = [path.join(kit, 'build.sh'), ...filesBelow(path.join(kit, 'src'))];
  const folder = await made('java-chassis', [source, ...generated, ...kitFiles], async (out) => {
    await run('sh', [path.join(kit, 'build.sh'), out]);
    const compiler = ['-nowarn', '-Xlint:none', '-proc:none', '-cp', path.join(out, 'katamari-chassis.jar')];
    await run(toolPath('javac'), [...compiler, '-d', path.join(out, 'classes'), source, ...generated]);
  });
  const classPath = [path.join(folder, 'classes'), path.join(folder, 'katamari-chassis.jar')].join(path.delimiter);
  return [toolPath('java'), '-Xmx256m', '-XX:+UseSerialGC', '-cp', classPath, 'KitMirror', MIRROR_IDL];
}

export interface CppPrograms {
  readonly client: string;
  /** A stock server. */
  readonly server: string;
  /** With the kit. */
  readonly chassis: string;
}

export async function cppPrograms(): Promise<CppPrograms> {
  const generated = path.join(await generatedCode(), 'gen-cpp');
  const servers = path.join(MATRIX, 'servers');
  const common = [
    ...filesBelow(generated).filter((file) => file.endsWith('.cpp')),
    path.join(servers, 'key-order.cpp'),
  ];
  const kitHeaders = path.join(REPOSITORY, 'chassis-sdk', 'cpp', 'include');
  const flags = [...CPP_FLAGS, '-I', generated, '-I', servers, '-I', kitHeaders];
  const objects = await made('cpp-objects', common, async (out) => {
    for (const source of common) {
      await run(toolPath('g++'), [...flags, '-c', source, '-o', path.join(out, `${path.basename(source, '.cpp')}.o`)]);
    }
  });
  const kit = path.join(REPOSITORY, 'chassis-sdk', 'cpp');
  const kitFiles = [...filesBelow(path.join(kit, 'src')), ...filesBelow(path.join(kit, 'include'))];
  const program = (name: string, sources: readonly string[], ...headers: string[]): Promise<string> =>
    made(name, [...sources, ...headers, ...common], async (out) => {
      const libraries = ['-lthrift', '-lthriftz', '-lz', '-pthread'];
      await run(toolPath('g++'), [
        ...flags,
        ...sources,
        ...filesBelow(objects),
        ...libraries,
        '-o',
        path.join(out, name),
      ]);
    });
  const handlers = path.join(servers, 'mirror.h');
  const client = await program('cpp-client', [path.join(MATRIX, 'clients', 'client.cpp')]);
  const server = await program('cpp-server', [path.join(servers, 'plain.cpp')], handlers);
  const sources = [path.join(servers, 'kit.cpp'), ...kitFiles.filter((file) => file.endsWith('.cc'))];
  const chassis = await program('cpp-chassis', sources, handlers, ...kitFiles);
  return {
    client: path.join(client, 'cpp-client'),
    server: path.join(server, 'cpp-server'),
    chassis: path.join(chassis, 'cpp-chassis'),
  };
}

/** A folder that `make` has filled, in this run or in an earlier one from files of the same contents. */
async function made(name: string, from: readonly string[], make: (folder: string) => Promise<void>): Promise<string> {
  const hash = createHash('sha256');
  // How they are made counts too.
  for (const file of [...from, path.join(REPOSITORY, 'test', 'kit', 'matrix', 'build.ts')])
    hash.update(readFileSync(file));
  const folder = path.join(CACHE, `${name}-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(folder)) return folder;
  mkdirSync(CACHE, { recursive: true });
  const unfinished = mkdtempSync(path.join(CACHE, `unfinished-${name}-`));
  try {
    await make(unfinished);
    renameSync(unfinished, folder);
  } catch (error) {
    // Another run was faster.
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return folder;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const at = path.join(folder, entry.name);
      return entry.isDirectory() ? filesBelow(at) : [at];
    })
    .sort();
}

const run = promisify(execFile);
