// Checks of a start: that the chassis listens, and that what it says of itself is complete, true to its IDL, and the same each time. What the
import { describeDifference, parseIdl } from '../../../core/idl/mod.ts';
import { chassisInterface, type ChassisDetails } from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { LISTEN_ADVICE } from './chassis-under-test.ts';
import { CheckFailed } from './check-result.ts';
import { decoded, PING, type Check, type CheckGroup, type TestContext } from './test-context.ts';
import { describeAnswer } from './test-link.ts';

// mesh takes from `describe` here, it takes from there when a chassis is introduced.

import { valid } from 'semver';
export const START: CheckGroup = {
  title: 'It starts',
  checks: [
    {
      id: 'listens',
      what: 'listens at KATAMARI_LISTEN in time',
      advice: LISTEN_ADVICE,
      run: async ({ subject }) => void (await subject.start()),
    },
    {
      id: 'describe',
      what: 'answers describe, with every field',
      advice: `answer katamari.Chassis:describe (idl/chassis.thrift) and fill in all fields; what there is none of is an empty list, map or text`,
      async run(exam) {
        exam.described = complete(await describe(exam));
      },
    },
    {
      id: 'ping',
      what: 'answers ping',
      advice: 'answer katamari.Chassis:ping at once with an empty result, without asking the code behind the handlers',
      async run(exam) {
        const answer = await exam.ask(PING);
        if (answer.isException || answer.body.length > 1)
          throw new CheckFailed('an empty result of katamari.Chassis:ping', describeAnswer(answer));
      },
    },
  ],
};

export const DETAILS: CheckGroup = {
  title: 'It says what it is',
  checks: [
    {
      id: 'version',
      what: 'its version is SemVer',
      advice: 'name a version of three numbers, such as 1.4.0: routes and ranges are made of them',
      async run(exam) {
        const { version } = exam.details();
        if (valid(version) !== version)
          throw new CheckFailed('a SemVer version such as 1.4.0', JSON.stringify(version));
      },
    },
    {
      id: 'idl',
      what: 'its IDL is understood and has its service',
      advice: 'send the IDL text itself with all that it includes, each under the name that the include says',
      async run(exam) {
        exam.interface = interfaceOf(exam.details());
      },
    },
    {
      id: 'concurrency',
      what: 'its concurrency is 1 or more',
      advice: 'say 1 for code that works on one call at a time',
      async run(exam) {
        const { concurrency } = exam.details();
        if (concurrency < 1) throw new CheckFailed('a concurrency of 1 or more', String(concurrency));
      },
    },
    {
      id: 'sdk',
      what: 'it names its kit',
      advice: 'say language and version, such as "python 0.1.0": people look for it when something is wrong',
      async run(exam) {
        const { sdk } = exam.details();
        if (sdk.trim() === '') throw new CheckFailed('the name of a kit in field sdk', 'an empty text');
      },
    },
    {
      id: 'describe-same',
      what: 'it says the same when asked again',
      advice:
        'make what describe answers once, at the start: equal details make a pool, and a chassis that changes them fits none',
      async run(exam) {
        const before = exam.details();
        const after = complete(await describe(exam));
        const changed = FIELDS.filter((name) => shown(before[name]) !== shown(after[name]));
        if (changed.length > 0)
          throw new CheckFailed(
            'the same answer to describe twice',
            changed.map((name) => `${name} ${shown(before[name])}, then ${shown(after[name])}`).join('; '),
          );
      },
    },
  ],
};

/** Only for a chassis that says it implements Conformance. */
export const CONFORMANCE_IDL: Check = {
  id: 'conformance-idl',
  what: 'its Conformance is that of this version',
  advice: 'take idl/conformance.thrift of this version of Katamari into the test fixture',
  async run(exam) {
    const found = exam.known();
    if (found.id === exam.conformance.id) return;
    throw new CheckFailed('the service of idl/conformance.thrift', describeDifference(exam.conformance, found));
  },
};

async function describe(exam: TestContext): Promise<Record<string, unknown>> {
  const answer = await exam.ask({ name: 'katamari.Chassis:describe' });
  if (answer.isException)
    throw new CheckFailed(
      'an answer to katamari.Chassis:describe',
      describeAnswer(answer),
      'answer the control service of idl/chassis.thrift. A plain Thrift server, without a kit, need not conform: its deployment says "kit: none" and "idl"',
    );
  const method = chassisInterface().methods.get('describe');
  if (method === undefined) throw new Error('idl/chassis.thrift has no method describe');
  return (decoded(method, answer)['success'] ?? {}) as Record<string, unknown>;
}

/** @throws Fault that names the fields that are not there */
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
      'send the IDL that declares the service which describe names',
    );
  } catch (error) {
    if (error instanceof CheckFailed) throw error;
    throw new CheckFailed('an IDL that is understood', (error as Error).message);
  }
}

/** Lists and maps are equal whatever their order. */
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
