// `katamari doctor --security` looks for what an attacker would look for: in the configuration, on the machine and, if
// it runs, in the mesh. It changes nothing. Each check is in a file of its subject; this one runs them in an order in
// which a person reads them.

import path from 'node:path';
import { examinePrivateDirectory } from '../../../core/mod.ts';
import { policyFileIn, readPolicyFile } from '../../access/mod.ts';
import { isDataDirectory, type Config, type LoadedConfig } from '../../config/mod.ts';
import { checkAdminTokens, tokenUsesIn, type TokenUses } from './admin-tokens.ts';
import { auditFolderOf, checkAuditLog } from './audit.ts';
import { checkCertificateFiles } from './certificates.ts';
import { checkShardDirectory, checkSources } from './content.ts';
import {
  checkAnonymous,
  checkConsulProtection,
  checkLinkProtection,
  checkPolicy,
  checkPortProtection,
  checkQuotas,
  checkServedFiles,
  checkTokenKeys,
  checkWebPages,
  type KnownPolicy,
} from './exposure.ts';
import { fail, ok, warn, type Finding } from './finding.ts';
import { checkCode, checkIsolation, type CheckedDeployment, type MeshUser } from './isolation.ts';
import { checkSocketDir } from './machine.ts';
import { askMesh, checkListeners, type MeshFacts } from './running-mesh.ts';
import { checkConfigFile, checkSecrets, userName } from './secrets.ts';

export interface SecurityOptions {
  /** Base of the path of the configuration. */
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Unix time in ms. */
  readonly nowMs: number;
  readonly user: MeshUser;
}

/** The user of this process. The doctor runs as the user of the mesh. */
export function ownUser(): MeshUser {
  return { uid: process.geteuid?.() ?? -1, name: userName() };
}

export async function examineSecurity(loaded: LoadedConfig, options: SecurityOptions): Promise<Finding[]> {
  const { config } = loaded;
  const { cwd, env, nowMs, user } = options;
  const file = loaded.file === undefined ? undefined : path.resolve(cwd, loaded.file);
  const { facts, finding } = await askMesh(config);
  const policy = await policyOf(config, facts);
  return [
    ...(file === undefined ? [] : checkConfigFile(file)),
    checkDataDirectory(config),
    checkSocketDir(),
    ...checkSecrets(loaded, file),
    ...checkCertificateFiles(config, nowMs),
    ...checkPortProtection(config),
    checkAnonymous(config, policy),
    checkPolicy(config, policy),
    ...checkQuotas(config, policy),
    ...checkTokenKeys(config),
    ...checkWebPages(config),
    ...checkServedFiles(config, file),
    checkLinkProtection(config),
    ...checkConsulProtection(config, env),
    checkShardDirectory(config),
    ...checkSources(loaded, file),
    ...checkIsolation(deploymentsOf(loaded, file, facts), user),
    ...checkCode(config),
    ...(await checkAuditLog(config, Number.POSITIVE_INFINITY)),
    finding,
    ...(facts === undefined ? [] : await checkFacts(config, facts, nowMs)),
  ];
}

async function checkFacts(config: Config, { status, tokens }: MeshFacts, nowMs: number): Promise<Finding[]> {
  const isAlone = new Set(status.processes.map(({ name }) => name)).size === 1;
  const uses = status.name === config.name && isAlone ? await usesOf(config) : undefined;
  const listeners = status.name === config.name ? checkListeners(config, status) : [];
  return [...listeners, ...checkAdminTokens(tokens, uses, nowMs)];
}

/** Each process logs the changes that it took, so only the log of a mesh of one process tells all of them. */
async function usesOf(config: Config): Promise<TokenUses | undefined> {
  try {
    return await tokenUsesIn(auditFolderOf(config));
  } catch {
    // The check of the audit log has told it.
    return undefined;
  }
}

/** A file that this process cannot use counts before what Consul has: its next start denies every call. */
async function policyOf(config: Config, facts: MeshFacts | undefined): Promise<KnownPolicy> {
  const file = policyFileIn(config.dataDir);
  const stored = await readPolicyFile(file);
  if (stored instanceof Error) return { state: 'broken', why: `${file} cannot be used (${stored.message})` };
  if (facts !== undefined) return facts.policy;
  if (stored?.policy === undefined) return { state: 'none' };
  return { state: 'in force', version: stored.record.version, policy: stored.policy };
}

/** Checks as the start does, and makes nothing. */
function checkDataDirectory({ dataDir }: Config): Finding {
  const subject = 'data directory';
  const { isMissing, refused, change } = examinePrivateDirectory(dataDir, isDataDirectory);
  if (isMissing) return ok(subject, `${dataDir} will be created for this user alone`);
  if (refused !== '') return fail(subject, refused, 'or choose another with --data-dir');
  if (change === '') return ok(subject, `${dataDir}, closed to other users`);
  const text = `${dataDir} can be entered by other users, who see what the mesh keeps there`;
  return warn(subject, text, `chmod 700 ${dataDir}`);
}

function deploymentsOf(
  { config, where }: LoadedConfig,
  file: string | undefined,
  facts: MeshFacts | undefined,
): CheckedDeployment[] {
  const own = config.deployments.map((deployment, index): CheckedDeployment => ({
    ...deployment,
    place: `deployments[${index}]`,
    at: (...keys) => where(['deployments', index, ...keys]),
    file,
  }));
  const known = new Set(own.map(({ id }) => id));
  const others = (facts?.deployments ?? [])
    .map(({ service, version, command, env, isolation }): CheckedDeployment => {
      const id = `${service}@${version}`;
      const place = `the file of ${id} (katamari deploy)`;
      return { id, command, env, isolation, place, at: (...keys) => `${id}: ${keys.join('.')}`, file: undefined };
    })
    .filter(({ id }) => !known.has(id));
  return [...own, ...others];
}
