// Routes below /v1/agent/ (services, checks, maintenance and information of this agent) and /v1/status/.

import { formatAddress } from '../../core/mod.ts';
import type { CheckStatus } from './catalog-table.ts';
import { checkPlanOf, CHECK_FIELDS } from './check-definition.ts';
import { decodeStruct, parseBool, parseJson, Refusal, type Decoded, type Fields } from './go-compat.ts';
import type { LocalAgent, LocalCheck } from './local-agent.ts';
import { checkCommon, empty, json, type AgentResponse, type AgentRequest, type AgentRoute } from './request.ts';
import type { AgentState } from './state.ts';

export interface AgentRoutesOptions {
  readonly local: LocalAgent;
  readonly state: AgentState;
  readonly node: string;
  readonly nodeId: string;
  readonly datacenter: string;
  readonly version: string;
  /** Minimum time before a critical service is deregistered. */
  readonly deregisterAfterMinMs: number;
  /** Host and port at which the agent listens. */
  readonly address: () => { host: string; port: number };
  readonly gauges: () => Readonly<Record<string, number>>;
}

const PREFIX = 'Request decode failed';
const SERVICE_FIELDS: Fields = {
  Name: 'string',
  ID: 'string',
  Tags: 'strings',
  Port: 'int',
  Address: 'string',
  TaggedAddresses: 'any',
  Meta: 'map',
  Weights: 'any',
  EnableTagOverride: 'bool',
  Check: 'any',
  Checks: 'any',
  Kind: 'string',
  Proxy: 'any',
  Connect: 'any',
  Token: 'string',
  Namespace: 'string',
};
const WEIGHT_FIELDS: Fields = { Passing: 'int', Warning: 'int' };
const UPDATE_FIELDS: Fields = { Status: 'string', Output: 'string' };
const STATUSES: readonly string[] = ['passing', 'warning', 'critical'];

export function agentRoutes(options: AgentRoutesOptions): AgentRoute[] {
  const { local } = options;
  const beat =
    (status: CheckStatus) =>
    (request: AgentRequest): AgentResponse => {
      local.beat(request.rest, status, request.query.get('note') ?? '');
      return empty();
    };
  return [
    {
      path: '/v1/agent/services',
      methods: ['GET'],
      run: (request) => json(Object.fromEntries(local.services().map((service) => [service.ID, service])), request),
    },
    {
      path: '/v1/agent/checks',
      methods: ['GET'],
      run: (request) => json(Object.fromEntries(local.checks().map((check) => [check['CheckID'], check])), request),
    },
    { path: '/v1/agent/service/register', methods: ['PUT'], run: (request) => registerService(options, request) },
    { path: '/v1/agent/service/deregister/', methods: ['PUT'], run: (request) => deregisterService(local, request) },
    { path: '/v1/agent/service/maintenance/', methods: ['PUT'], run: (request) => maintainService(local, request) },
    { path: '/v1/agent/service/', methods: ['GET'], run: (request) => showService(local, request) },
    { path: '/v1/agent/check/register', methods: ['PUT'], run: (request) => registerCheck(options, request) },
    {
      path: '/v1/agent/check/deregister/',
      methods: ['PUT'],
      run: (request) => {
        local.deleteCheck(request.rest);
        return empty();
      },
    },
    { path: '/v1/agent/check/pass/', methods: ['PUT'], run: beat('passing') },
    { path: '/v1/agent/check/warn/', methods: ['PUT'], run: beat('warning') },
    { path: '/v1/agent/check/fail/', methods: ['PUT'], run: beat('critical') },
    { path: '/v1/agent/check/update/', methods: ['PUT'], run: (request) => updateCheck(local, request) },
    { path: '/v1/agent/maintenance', methods: ['PUT'], run: (request) => maintainNode(local, request) },
    { path: '/v1/agent/self', methods: ['GET'], run: (request) => json(self(options), request) },
    { path: '/v1/agent/members', methods: ['GET'], run: (request) => json([member(options)], request) },
    { path: '/v1/agent/metrics', methods: ['GET'], run: (request) => json(metrics(options.gauges()), request) },
    { path: '/v1/status/leader', methods: ['GET'], run: (request) => json(formatAddress(options.address()), request) },
    { path: '/v1/status/peers', methods: ['GET'], run: (request) => json([formatAddress(options.address())], request) },
  ];
}

async function registerService(options: AgentRoutesOptions, request: AgentRequest): Promise<AgentResponse> {
  checkCommon(request, options.datacenter);
  const given = decodeStruct(parseJson(await request.body(), PREFIX), SERVICE_FIELDS, PREFIX, 'refuse');
  const name = given.string('Name');
  if (name === '') throw new Refusal(400, 'Missing service name');
  const kind = given.string('Kind');
  if (kind !== '' || given.has('Proxy'))
    throw new Refusal(400, 'The embedded agent has no proxies. Register a plain service, or use a Consul server');
  const id = given.string('ID') || name;
  const checks = serviceChecks(options, given, id, name);
  const weights = decodeStruct(given.any('Weights') ?? {}, WEIGHT_FIELDS, PREFIX, 'ignore');
  const tagged = given.any('TaggedAddresses');
  options.local.putService({
    ID: id,
    Service: name,
    Tags: given.strings('Tags') ?? [],
    Meta: given.map('Meta') ?? {},
    Port: given.number('Port'),
    Address: given.string('Address'),
    ...(typeof tagged === 'object' && tagged !== null ? { TaggedAddresses: tagged as Record<string, unknown> } : {}),
    Weights: {
      Passing: weights.has('Passing') ? weights.number('Passing') : 1,
      Warning: weights.has('Warning') ? weights.number('Warning') : 1,
    },
    EnableTagOverride: given.bool('EnableTagOverride'),
  });
  for (const { check, status } of checks) options.local.putCheck(check, status, '');
  return empty();
}

/** Parses all checks of a service registration, before anything is registered. */
function serviceChecks(
  options: AgentRoutesOptions,
  given: Decoded,
  id: string,
  name: string,
): { check: LocalCheck; status: CheckStatus }[] {
  const raw = given.any('Checks') ?? [];
  if (!Array.isArray(raw))
    throw new Refusal(400, `${PREFIX}: json: cannot unmarshal into Go struct field .Checks of type structs.CheckTypes`);
  const items = [...(given.has('Check') ? [given.any('Check')] : []), ...raw]
    .map((item) => decodeStruct(item, CHECK_FIELDS, PREFIX, 'refuse'))
    .filter(
      (item) =>
        item.has('TTL') ||
        item.has('TCP') ||
        item.has('HTTP') ||
        item.has('Interval') ||
        item.has('Args') ||
        item.has('AliasService') ||
        item.has('GRPC'),
    );
  return items.map((item, at) => {
    const status = item.string('Status');
    if (status !== '' && !STATUSES.includes(status))
      throw new Refusal(400, "Status for checks must 'passing', 'warning', 'critical'");
    const checkId = item.string('CheckID') || (items.length === 1 ? `service:${id}` : `service:${id}:${at + 1}`);
    const plan = checkPlanOf(item, options.deregisterAfterMinMs);
    const check = {
      CheckID: checkId,
      Name: item.string('Name') || `Service '${name}' check`,
      Notes: item.string('Notes'),
      ServiceID: id,
      ...plan,
    };
    return { check, status: (status || 'critical') as CheckStatus };
  });
}

async function registerCheck(options: AgentRoutesOptions, request: AgentRequest): Promise<AgentResponse> {
  checkCommon(request, options.datacenter);
  const item = decodeStruct(parseJson(await request.body(), PREFIX), CHECK_FIELDS, PREFIX, 'refuse');
  const status = item.string('Status');
  if (status !== '' && !STATUSES.includes(status)) throw new Refusal(400, 'Bad check status');
  const name = item.string('Name');
  if (name === '') throw new Refusal(400, 'Missing check name');
  const plan = checkPlanOf(item, options.deregisterAfterMinMs);
  const serviceId = item.string('ServiceID');
  if (serviceId !== '' && options.local.service(serviceId) === undefined) {
    throw new Refusal(500, `ServiceID ${JSON.stringify(serviceId)} does not exist`);
  }
  const check = {
    CheckID: item.string('ID') || item.string('CheckID') || name,
    Name: name,
    Notes: item.string('Notes'),
    ServiceID: serviceId,
    ...plan,
  };
  options.local.putCheck(check, (status || 'critical') as CheckStatus, '');
  return empty();
}

function deregisterService(local: LocalAgent, request: AgentRequest): AgentResponse {
  if (request.rest === '') throw new Refusal(500, 'ServiceID missing');
  local.deleteService(request.rest);
  return empty();
}

function showService(local: LocalAgent, request: AgentRequest): AgentResponse {
  const service = local.service(request.rest);
  if (service === undefined) throw new Refusal(404, `unknown service ID: ${request.rest}`);
  return json(service, request);
}

async function updateCheck(local: LocalAgent, request: AgentRequest): Promise<AgentResponse> {
  const given = decodeStruct(parseJson(await request.body(), PREFIX), UPDATE_FIELDS, PREFIX, 'ignore');
  const status = given.string('Status');
  if (!STATUSES.includes(status)) throw new Refusal(400, `Invalid check status: '${status}'`);
  local.beat(request.rest, status as CheckStatus, given.string('Output'));
  return empty();
}

function maintainService(local: LocalAgent, request: AgentRequest): AgentResponse {
  if (request.rest === '') throw new Refusal(400, 'Missing service ID');
  const isOn = enableOf(request);
  if (local.service(request.rest) === undefined)
    throw new Refusal(404, `No service registered with ID ${JSON.stringify(request.rest)}`);
  maintain(
    local,
    `_service_maintenance:${request.rest}`,
    'Service Maintenance Mode',
    'service',
    request.rest,
    isOn,
    request,
  );
  return empty();
}

function maintainNode(local: LocalAgent, request: AgentRequest): AgentResponse {
  maintain(local, '_node_maintenance', 'Node Maintenance Mode', 'node', '', enableOf(request), request);
  return empty();
}

function enableOf(request: AgentRequest): boolean {
  const raw = request.query.get('enable');
  if (raw === null || raw === '') throw new Refusal(400, 'Missing value for enable');
  const isOn = parseBool(raw);
  if (isOn === undefined) throw new Refusal(400, `Invalid value for enable: ${JSON.stringify(raw)}`);
  return isOn;
}

function maintain(
  local: LocalAgent,
  id: string,
  name: string,
  what: string,
  serviceId: string,
  isOn: boolean,
  request: AgentRequest,
): void {
  if (!isOn) local.deleteCheck(id);
  else if (!local.hasCheck(id)) {
    const notes =
      request.query.get('reason') ||
      `Maintenance mode is enabled for this ${what}, but no reason was provided. This is a default message.`;
    const plan = { intervalMs: 0, timeoutMs: 0 };
    local.putCheck(
      { CheckID: id, Name: name, Notes: notes, ServiceID: serviceId, Type: 'maintenance', plan, deregisterAfterMs: 0 },
      'critical',
      '',
    );
  }
}

function self(options: AgentRoutesOptions): unknown {
  const { datacenter, node, nodeId, version } = options;
  return {
    Config: {
      Datacenter: datacenter,
      NodeName: node,
      NodeID: nodeId,
      Revision: 'katamari',
      Server: true,
      Version: version,
    },
    DebugConfig: {},
    Coord: { Vec: [0, 0, 0, 0, 0, 0, 0, 0], Error: 1.5, Adjustment: 0, Height: 0.00001 },
    Member: member(options),
    Meta: {},
    Stats: {
      agent: { services: String(options.local.services().length), checks: String(options.local.checks().length) },
    },
  };
}

function member(options: AgentRoutesOptions): unknown {
  const { host, port } = options.address();
  const tags = {
    acls: '0',
    bootstrap: '1',
    build: `${options.version}:katamari`,
    dc: options.datacenter,
    id: options.nodeId,
    port: String(port),
    role: 'consul',
    segment: '',
  };
  return {
    Name: options.node,
    Addr: host,
    Port: port,
    Tags: tags,
    Status: 1,
    ProtocolMin: 1,
    ProtocolMax: 5,
    ProtocolCur: 2,
    DelegateMin: 2,
    DelegateMax: 5,
    DelegateCur: 4,
  };
}

function metrics(gauges: Readonly<Record<string, number>>): unknown {
  const Gauges = Object.entries(gauges).map(([Name, Value]) => ({ Name, Value, Labels: {} }));
  return { Timestamp: new Date().toISOString(), Gauges, Points: [], Counters: [], Samples: [] };
}
