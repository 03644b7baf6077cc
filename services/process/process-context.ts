// The parts of a process that exist before Consul is contacted; the first step of a start creates them.

import { ByteLedger, type Clock } from '../../core/mod.ts';
import { StatsTable, type MeshEvent } from '../../core/rpc/mod.ts';
import { advertisedHost, createSecrets, ROLES, type Config, type Role } from '../config/mod.ts';
import { AuditLog } from '../audit/mod.ts';
import { AssignmentLog, EventLog, Router } from '../mesh/mod.ts';
import { auditDenial } from './audit-refusals.ts';
import { AccessControl } from './access.ts';
import { Components } from './components.ts';
import { CredentialFiles } from './credential-files.ts';
import { LinkCredentials } from './link-credentials.ts';
import { Defects } from './defects.ts';
import { OfferTable } from './offer-table.ts';
import path from 'node:path';

export interface MeshHooks {
  readonly onEvent: (event: MeshEvent) => void;
  /** Called for each line that a chassis or an added faceplate prints. */
  readonly onLine?: (resource: string, line: string) => void;
  /** Called for what is not as it should be and does not prevent the start. */
  readonly onWarning?: (text: string) => void;
}

/** The parts of a process that need no network. */
export interface ProcessContext {
  readonly config: Config;
  readonly hooks: MeshHooks;
  /** In the order of ROLES, each once. */
  readonly roles: readonly Role[];
  readonly clock: Clock;
  readonly startedAtMs: number;
  readonly events: EventLog;
  /** Changes and refusals of this process. */
  readonly audit: AuditLog;
  readonly callStats: StatsTable;
  /** The bytes that the clients of all ports hold. */
  readonly ledger: ByteLedger;
  readonly router: Router;
  readonly access: AccessControl;
  readonly offers: OfferTable;
  readonly components: Components;
  readonly defects: Defects;
  readonly security: LinkCredentials;
  readonly credentials: CredentialFiles;
  /** Host under which other machines reach this process. */
  readonly advertised: string;
}

/** @throws ExitError when the secret or a certificate of the link cannot be read or is unsafe */
export function createContext(config: Config, hooks: MeshHooks, roles: readonly Role[], clock: Clock): ProcessContext {
  const events = new EventLog(config.name);
  events.listen((event) => {
    // Events gathered from other processes are in their own logs.
    if (event.process === config.name) hooks.onEvent(event);
  });
  const components = new Components();
  createSecrets(config);
  const credentials = new CredentialFiles(clock, events);
  const security = new LinkCredentials(config, credentials);
  components.register({ stage: 'consul', close: () => credentials.close() });
  const audit = openAudit(config, events);
  const access = new AccessControl(config, events, clock, audit);
  const assignments = openAssignments(config, clock, events);
  const router = new Router({
    clock,
    assignments,
    quotas: access.quotas,
    onDenied: (identity, target, reason) => {
      access.denials.denied(identity, target, reason);
      auditDenial(audit, identity, target, reason);
    },
    onDisagreement: (method, why) => events.add('copies_disagree', method, why),
  });
  components.register({ stage: 'consul', close: () => audit.close() });
  if (assignments !== undefined) components.register({ stage: 'consul', close: () => assignments.close() });
  return {
    config,
    hooks,
    roles: ROLES.filter((role) => roles.includes(role)),
    clock,
    startedAtMs: clock.nowMs(),
    events,
    audit,
    callStats: new StatsTable(),
    ledger: new ByteLedger(config.limits),
    router,
    access,
    offers: new OfferTable(router),
    components,
    defects: new Defects(events, clock),
    security,
    credentials,
    advertised: advertisedHost(config),
  };
}

function openAssignments({ assignments }: Config, clock: Clock, events: EventLog): AssignmentLog | undefined {
  const { file } = assignments;
  if (file === '') return undefined;
  const shown = file === '-' ? 'standard output' : file;
  const onFailure = (why: string): void => events.add('assignments_failed', shown, `cannot be written: ${why}`);
  return new AssignmentLog({ ...assignments, clock, onFailure });
}

function openAudit({ name, dataDir, audit }: Config, events: EventLog): AuditLog {
  const folder = path.join(dataDir, 'audit');
  const log = new AuditLog({
    folder,
    process: name,
    ...audit,
    onFailure: (text) => events.add('audit_failed', folder, text),
    onRecovery: (text) => events.add('audit_restored', folder, text),
  });
  log.start();
  return log;
}
