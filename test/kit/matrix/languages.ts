// The clients of the matrix: how each is started, what its library offers, and what it cannot do, with the reason.
// Nothing is left out silently: a pair of transport and protocol either runs or is listed in `notOffered`, and a call
// is either compared or listed in `cannot`.

import path from 'node:path';
import { cppPrograms, generatedCode, javaClient } from './build.ts';
import { MATRIX } from './calls.ts';
import { toolPath } from '../tools/tools.ts';

export const LANGUAGES = ['Python', 'Ruby', 'C++', 'Java', 'Perl', 'Node'] as const;
export type Language = (typeof LANGUAGES)[number];

export const TRANSPORTS = ['framed', 'buffered', 'http', 'header'] as const;
export type MatrixTransport = (typeof TRANSPORTS)[number];

const BARE = ['binary', 'old-binary', 'compact', 'json'] as const;
const IN_HEADER = ['binary', 'compact', 'binary+zlib', 'compact+zlib'] as const;

/** A transport with a protocol in it, as every client accepts it on its command line. */
export interface Manner {
  readonly transport: MatrixTransport;
  readonly protocol: string;
}

export interface ClientProgram {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** A kind of call that a client library gets wrong with any server. */
interface Cannot {
  /** Titles of the calls. */
  readonly calls: readonly string[];
  /** Only with these protocols or transports. */
  readonly protocols?: readonly string[];
  readonly transports?: readonly string[];
  readonly why: string;
}

interface LanguageFacts {
  program(): Promise<ClientProgram>;
  /** Additional protocol names: the same protocol from another implementation in the library. */
  readonly more?: readonly string[];
  /** Why a transport, a protocol or a pair of both is missing. The first match counts. */
  readonly notOffered: readonly {
    readonly transport?: MatrixTransport;
    readonly protocol?: string;
    readonly why: string;
  }[];
  readonly cannot: readonly Cannot[];
}

const client = (name: string): string => path.join(MATRIX, 'clients', name);

export const FACTS: Readonly<Record<Language, LanguageFacts>> = {
  Python: {
    program: async () => ({
      command: ['/usr/bin/python3', client('client.py')],
      env: { PYTHONPATH: path.join(await generatedCode(), 'gen-py') },
    }),
    more: ['binary-accelerated', 'compact-accelerated'],
    notOffered: [],
    cannot: [],
  },
  Ruby: {
    program: async () => ({
      command: [toolPath('ruby'), '-W0', '-I', path.join(await generatedCode(), 'gen-rb'), client('client.rb')],
      env: {},
    }),
    more: ['binary-accelerated'],
    notOffered: [{ transport: 'header', why: 'the library has no THeader before 0.21; Debian ships 0.14' }],
    cannot: [],
  },
  'C++': {
    program: async () => ({ command: [(await cppPrograms()).client], env: {} }),
    notOffered: [],
    cannot: [
      { calls: ['text with NUL'], protocols: ['json'], why: 'TJSONProtocol of 0.17 reads \\u0000 as nothing' },
      {
        calls: [
          'text, long',
          'bytes, long',
          'tree',
          'containers',
          'containers, most',
          'containers, large',
          'whole',
          'whole, most',
        ],
        protocols: ['binary+zlib', 'compact+zlib'],
        why: 'THeaderTransport of 0.17 unpacks an answer into the buffer that its packed form fitted, and writes beyond it',
      },
    ],
  },
  Java: {
    program: async () => ({
      // A short-lived small program needs little heap and no optimizing compiler.
      command: [
        toolPath('java'),
        '-Xmx256m',
        '-XX:TieredStopAtLevel=1',
        '-cp',
        (await javaClient()).classPath,
        'Client',
      ],
      env: {},
    }),
    notOffered: [{ transport: 'header', why: 'the library has no THeader' }],
    cannot: [],
  },
  Perl: {
    program: async () => ({
      command: [toolPath('perl'), '-I', path.join(await generatedCode(), 'gen-perl'), client('client.pl')],
      env: {},
    }),
    notOffered: [
      { transport: 'header', why: 'the library has no THeader' },
      { transport: 'http', why: 'Thrift::HttpClient needs LWP and IO::String, which Debian’s package does not bring' },
      { protocol: 'compact', why: 'the library has the binary protocol only' },
      { protocol: 'json', why: 'the library has the binary protocol only' },
      { protocol: 'old-binary', why: 'the library reads it and always writes the strict one' },
    ],
    cannot: [{ calls: ['keyed'], why: 'maps and sets are hashes, whose keys are text: structs cannot be keys' }],
  },
  Node: {
    program: async () => ({
      command: [toolPath('node'), client('client.cjs')],
      env: { GENERATED: await generatedCode() },
    }),
    notOffered: [{ transport: 'header', why: 'the package has THeader for servers only: connections cannot send it' }],
    cannot: [
      { calls: ['real minus zero'], why: 'the package writes 0 for -0' },
      {
        calls: ['indexed'],
        why: 'maps are objects, whose keys are text: an i64 becomes a rounded number, false becomes "false", which is true',
      },
      { calls: ['keyed'], why: 'maps are objects: structs cannot be keys' },
      {
        calls: ['containers', 'whole'],
        protocols: ['compact'],
        why: 'the compact protocol of the package reads every bool in a list as false',
      },
      {
        calls: ['containers', 'whole'],
        protocols: ['json'],
        why: 'the JSON protocol of the package reads lists of lists of lists wrong',
      },
    ],
  },
};

/** Every pair that the library offers. */
export function mannersOf(language: Language): Manner[] {
  const { more = [] } = FACTS[language];
  return TRANSPORTS.flatMap((transport) =>
    (transport === 'header' ? IN_HEADER : [...BARE, ...more]).map((protocol) => ({ transport, protocol })),
  ).filter((manner) => whyNotOffered(language, manner) === undefined);
}

/** Every common pair that the library does not offer. */
export function missingOf(language: Language): (Manner & { readonly why: string })[] {
  return TRANSPORTS.flatMap((transport) =>
    (transport === 'header' ? IN_HEADER : BARE).flatMap((protocol) => {
      const why = whyNotOffered(language, { transport, protocol });
      return why === undefined ? [] : [{ transport, protocol, why }];
    }),
  );
}

function whyNotOffered(language: Language, { transport, protocol }: Manner): string | undefined {
  return FACTS[language].notOffered.find(
    (one) =>
      (one.transport === undefined || one.transport === transport) &&
      (one.protocol === undefined || one.protocol === protocol),
  )?.why;
}

/** Why this call is not compared; undefined if it is. */
export function whyCannot(language: Language, { transport, protocol }: Manner, title: string): string | undefined {
  return FACTS[language].cannot.find(
    ({ calls, protocols, transports }) =>
      calls.includes(title) && (protocols?.includes(protocol) ?? true) && (transports?.includes(transport) ?? true),
  )?.why;
}
