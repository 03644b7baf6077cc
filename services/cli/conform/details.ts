// Checks of the start: the chassis listens, and its details are complete, valid and the same each time. The mesh
// reads the same fields of `describe` when a chassis starts.

import { describeDifference, parseIdl } from '../../../core/idl/mod.ts';
import { chassisInterface, type ChassisDetails } from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { LISTEN_ADVICE } from './chassis-under-test.ts';
import { CheckFailed } from './check-result.ts';
import { decodeResult, PING, type Check, type CheckGroup, type TestContext } from './test-context.ts';
import { describeTestReply } from './test-link.ts';

import { valid } from 'semver';
export const START: CheckGroup = {
  title: 'Start',
  checks: [
    {
      id: 'listens',
      what: 'listens at KATAMARI_LISTEN in time',
      advice: LISTEN_ADVICE,
      run: async ({ chassis }) => void (await chassis.start()),
    },
    {
      id: 'describe',
      what: 'answers describe with every field',
      advice: `answer katamari.Chassis:describe (idl/chassis.thrift) and fill in all fields; use an empty list, map or string where there is no value`,
      async run(test) {
        test.described = complete(await describe(test));
      },
    },
    {
      id: 'ping',
      what: 'answers ping',
      advice: 'answer katamari.Chassis:ping at once with an empty result, without running a handler',
      async run(test) {
        const reply = await test.call(PING);
        if (reply.isException || reply.body.length > 1)
          throw new CheckFailed('an empty result of katamari.Chassis:ping', describeTestReply(reply));
      },
    },
  ],
};

export const DETAILS: CheckGroup = {
  title: 'Details',
  checks: [
    {
      id: 'version',
      what: 'version is SemVer',
      advice: 'use a version of three numbers, such as 1.4.0: routes and version ranges need it',
      async run(test) {
        const { version } = test.requireDetails();
        if (valid(version) !== version)
          throw new CheckFailed('a SemVer version such as 1.4.0', JSON.stringify(version));
      },
    },
    {
      id: 'idl',
      what: 'IDL is valid and declares the service',
      advice: 'send the IDL text and every included file, each under the name in its include statement',
      async run(test) {
        test.interface = interfaceOf(test.requireDetails());
      },
    },
    {
      id: 'concurrency',
      what: 'concurrency is 1 or more',
      advice: 'set it to 1 for code that handles one call at a time',
      async run(test) {
        const { concurrency } = test.requireDetails();
        if (concurrency < 1) throw new CheckFailed('a concurrency of 1 or more', String(concurrency));
      },
    },
    {
      id: 'sdk',
      what: 'sdk names the kit',
      advice: 'set sdk to language and version, such as "python 0.1.0": operators need it when they debug',
      async run(test) {
        const { sdk } = test.requireDetails();
        if (sdk.trim() === '') throw new CheckFailed('the name of a kit in field sdk', 'an empty string');
      },
    },
    {
      id: 'describe-same',
      what: 'describe returns the same when called again',
      advice:
        'build the details once, at the start: chassis with equal details form a pool, and one whose details change fits no pool',
      async run(test) {
        const before = test.requireDetails();
        const after = complete(await describe(test));
        const changed = FIELDS.filter((name) => shown(before[name]) !== shown(after[name]));
        if (changed.length > 0)
          throw new CheckFailed(
            'the same reply to describe twice',
            changed.map((name) => `${name} ${shown(before[name])}, then ${shown(after[name])}`).join('; '),
          );
      },
    },
  ],
};

/** Runs only for a chassis that offers the service Conformance. */
export const CONFORMANCE_IDL: Check = {
  id: 'conformance-idl',
  what: 'its Conformance service is that of this version',
  advice: 'copy idl/conformance.thrift of this version of Katamari to the test fixture',
  async run(test) {
    const found = test.requireInterface();
    if (found.id === test.conformance.id) return;
    throw new CheckFailed('the service of idl/conformance.thrift', describeDifference(test.conformance, found));
  },
};

async function describe(test: TestContext): Promise<Record<string, unknown>> {
  const reply = await test.call({ name: 'katamari.Chassis:describe' });
  if (reply.isException)
    throw new CheckFailed(
      'a reply to katamari.Chassis:describe',
      describeTestReply(reply),
      'implement the control service of idl/chassis.thrift. A plain Thrift server without a kit does not need to conform: its deployment has "kit: none" and "idl"',
    );
  const method = chassisInterface().methods.get('describe');
  if (method === undefined) throw new Error('idl/chassis.thrift has no method describe');
  return (decodeResult(method, reply)['success'] ?? {}) as Record<string, unknown>;
}

/** Returns the details. @throws CheckFailed that names the missing and the empty fields */
function complete(fields: Record<string, unknown>): ChassisDetails {
  const missing = FIELDS.filter((name) => fields[name] === undefined);
  const empty = (['serviceName', 'version', 'idlMain'] as const).filter((name) => fields[name] === '');
  if (missing.length > 0 || empty.length > 0) {
    const came = [
      missing.length === FIELDS.length ? 'no details at all' : missing.length > 0 ? `no ${missing.join(', ')}` : '',
      empty.length > 0 ? `empty ${empty.join(', ')}` : '',
    ];
    throw new CheckFailed('all fields of ChassisDetails', came.filter((part) => part !== '').join('; '));
  }
  return {
    ...(fields as unknown as ChassisDetails),
    more: Object.fromEntries(fields['more'] as Map<string, string>),
    idlFiles: Object.fromEntries(fields['idlFiles'] as Map<string, string>),
  };
}

function interfaceOf({ serviceName, idlMain, idlFiles }: ChassisDetails): Interface {
  if (idlFiles[idlMain] === undefined)
    throw new CheckFailed(
      `the text of ${idlMain} (idlMain) in idlFiles`,
      `files ${Object.keys(idlFiles).join(', ') || 'none at all'}`,
    );
  try {
    const { services } = parseIdl({ main: idlMain, files: idlFiles });
    const found = services.get(serviceName);
    if (found !== undefined) return found;
    throw new CheckFailed(
      `service ${serviceName} in ${idlMain}`,
      `an IDL with ${[...services.keys()].map((name) => `service ${name}`).join(', ') || 'no service'}`,
      'send the IDL that declares the service of describe',
    );
  } catch (error) {
    if (error instanceof CheckFailed) throw error;
    throw new CheckFailed('a valid IDL', (error as Error).message);
  }
}

/** Prints a value so that lists and maps compare equal in any order. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return JSON.stringify([...(value as unknown[])].sort());
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return JSON.stringify(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const FIELDS = [
  'serviceName',
  'version',
  'roles',
  'tags',
  'more',
  'idlMain',
  'idlFiles',
  'concurrency',
  'sdk',
] as const satisfies readonly (keyof ChassisDetails)[];
