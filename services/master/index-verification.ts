// Checks of the files of an index, in the shapes of idl/indices.thrift. The managers check and remember what they find;
// this asks all of them, so any faceplate can tell the progress of a check that another one has started.

import { randomUUID } from 'node:crypto';
import { indexIdOf, type CheckTarget } from '../mesh/mod.ts';
import { refused, type AdminMethod, type TokenArgs } from './admin-guard.ts';
import type { IndexActions, ManagerChecks } from './index-actions.ts';
import { unknownIndex } from './index-store.ts';

interface VerifyArgs extends TokenArgs {
  readonly name: string;
  readonly version: string;
  readonly shard: string;
}

export function verificationMethods(actions: IndexActions): Readonly<Record<string, AdminMethod>> {
  return {
    verifyIndex: {
      scope: 'operate',
      subject: ({ name, version, shard }: VerifyArgs) =>
        `${name}${version === '' ? '' : `@${version}`}${shard === '' ? '' : `/${shard}`}`,
      act: async ({ name, version, shard }: VerifyArgs) => {
        await checkTarget(actions, { index: name, version, shard });
        const id = randomUUID();
        return indexCheck(id, await actions.verify(id, { index: name, version, shard }));
      },
    },
    getVerification: {
      scope: 'read',
      act: async ({ id }: TokenArgs & { id: string }) => indexCheck(id, await actions.verification(id)),
    },
  };
}

/** @throws KatamariError, ThriftException when there is no such index, version or shard */
async function checkTarget({ store, manifest }: IndexActions, { index, version, shard }: CheckTarget): Promise<void> {
  const records = await store.list();
  const found = records.filter((one) => one.name === index && (version === '' || one.version === version));
  if (found.length === 0) throw unknownIndex(index, version, records);
  if (shard === '') return;
  const lists = await Promise.all(found.map((record) => manifest(record.manifest)));
  const names = lists.flatMap(({ shards }) => shards.map((one) => one.name));
  if (names.includes(shard)) return;
  const more = names.length > NAMES_SHOWN_MAX ? ', ...' : '';
  const versions = found.map((record) => indexIdOf(record)).join(', ');
  throw refused(
    'invalid',
    `${versions} has no shard ${shard}; shards are ${names.slice(0, NAMES_SHOWN_MAX).join(', ')}${more}`,
  );
}

function indexCheck(id: string, { checks, silent }: ManagerChecks): unknown {
  const replicas = [...checks].flatMap(([manager, own]) =>
    own.map((check) => ({ ...check, manager, state: CHECK_STATES[check.state] ?? CHECK_STATES['unknown'] })),
  );
  const keyOf = ({ shard, manager }: { readonly shard: string; readonly manager: string }): string =>
    `${shard} ${manager}`;
  return { id, replicas: replicas.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)), silent };
}

/** Enum CheckState, by the names of idl/manager.thrift. */
const CHECK_STATES: Readonly<Record<string, number>> = { waiting: 1, checking: 2, intact: 3, damaged: 4, unknown: 5 };
const NAMES_SHOWN_MAX = 5;
