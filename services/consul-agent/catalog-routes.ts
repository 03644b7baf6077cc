// Routes below /v1/catalog/ and /v1/health/: the services of all nodes and their health. Every read supports
// blocking queries.

import type { CatalogCheck, CatalogNode, CatalogService, CatalogTable } from './catalog-table.ts';
import { decodeStruct, parseBool, parseJson, Refusal, type Decoded, type Fields } from './go-compat.ts';
import {
  checkCommon,
  indexHeaders,
  json,
  waitOf,
  type AgentResponse,
  type AgentRequest,
  type AgentRoute,
} from './request.ts';
import type { AgentState } from './state.ts';
import type { Watchers } from './watchers.ts';

export function catalogRoutes(state: AgentState, watchers: Watchers, datacenter: string): AgentRoute[] {
  const { catalog } = state;
  /** Returns the route of a catalog read. `look` returns the index and the body. */
  const read = (
    path: string,
    what: string,
    look: (request: AgentRequest) => { index: number; found: unknown },
  ): AgentRoute => ({
    path,
    methods: ['GET'],
    run: async (request): Promise<AgentResponse> => {
      checkCommon(request, datacenter);
      if (what !== '' && request.rest === '') throw new Refusal(400, `Missing ${what}`);
      const { above, waitMs } = waitOf(request);
      const { index, found } = await watchers.query({ kind: 'catalog' }, above, waitMs, request.signal, () =>
        look(request),
      );
      const answer = json(found, request);
      return {
        ...answer,
        headers: { ...answer.headers, ...indexHeaders(index), 'X-Consul-Effective-Consistency': 'leader' },
      };
    },
  });
  return [
    { path: '/v1/catalog/datacenters', methods: ['GET'], run: (request) => json([datacenter], request) },
    { path: '/v1/catalog/register', methods: ['PUT'], run: (request) => register(state, request, datacenter) },
    { path: '/v1/catalog/deregister', methods: ['PUT'], run: (request) => deregister(state, request) },
    read('/v1/catalog/nodes', '', () => ({ index: catalog.nodesIndex(), found: catalog.nodes() })),
    read('/v1/catalog/services', '', () => ({ index: catalog.servicesIndex(), found: servicesWithTags(catalog) })),
    read('/v1/catalog/service/', 'service name', (request) => ({
      index: catalog.serviceIndex(request.rest, false),
      found: instances(catalog, request).map(({ node, service }) => flatService(node, service)),
    })),
    read('/v1/catalog/node/', 'node name', (request) => {
      const node = catalog.node(request.rest);
      if (node === undefined) return { index: catalog.nodeServicesIndex(), found: null };
      const Services = Object.fromEntries(
        catalog.services(request.rest).map((service) => [service.ID, fullService(service)]),
      );
      return { index: catalog.nodeServicesIndex(), found: { Node: node, Services } };
    }),
    read('/v1/health/node/', 'node name', (request) => ({
      index: catalog.checksIndex(),
      found: catalog.checks(request.rest),
    })),
    read('/v1/health/checks/', 'service name', (request) => ({
      index: catalog.checksIndex(),
      found: allChecks(catalog).filter((check) => check.ServiceName === request.rest),
    })),
    read('/v1/health/state/', 'check state', (request) => ({
      index: catalog.checksIndex(),
      found: allChecks(catalog).filter((check) => request.rest === 'any' || check.Status === request.rest),
    })),
    read('/v1/health/service/', 'service name', (request) => {
      const isPassingOnly = passingOf(request);
      const found = instances(catalog, request)
        .map(({ node, service }) => ({
          Node: node,
          Service: fullService(service),
          Checks: checksFor(catalog, node, service),
        }))
        .filter((entry) => !isPassingOnly || entry.Checks.every((check) => check.Status === 'passing'));
      return { index: catalog.serviceIndex(request.rest, true), found };
    }),
  ];
}

/** Parses `?passing`: `?passing` and `?passing=1` are true, `?passing=false` is false. */
function passingOf(request: AgentRequest): boolean {
  const raw = request.query.get('passing');
  if (raw === null) return false;
  const isOn = raw === '' ? true : parseBool(raw);
  if (isOn === undefined) throw new Refusal(400, 'Invalid value for ?passing');
  return isOn;
}

/** Returns the instances of the requested service that have all requested tags. */
function instances(catalog: CatalogTable, request: AgentRequest): { node: CatalogNode; service: CatalogService }[] {
  const tags = request.query.getAll('tag').map((tag) => tag.toLowerCase());
  return catalog.nodes().flatMap((node) =>
    catalog
      .services(node.Node)
      .filter((service) => service.Service === request.rest)
      .filter((service) => tags.every((tag) => service.Tags.some((own) => own.toLowerCase() === tag)))
      .map((service) => ({ node, service })),
  );
}

function servicesWithTags(catalog: CatalogTable): Record<string, string[]> {
  const tags = new Map<string, Set<string>>();
  for (const node of catalog.nodes()) {
    for (const service of catalog.services(node.Node)) {
      const known = tags.get(service.Service) ?? new Set();
      for (const tag of service.Tags) known.add(tag);
      tags.set(service.Service, known);
    }
  }
  return Object.fromEntries([...tags].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, own]) => [name, [...own]]));
}

function allChecks(catalog: CatalogTable): CatalogCheck[] {
  return catalog.nodes().flatMap((node) => catalog.checks(node.Node));
}

/** Returns the checks of a service. Checks of its node come first, because they apply to all services there. */
function checksFor(catalog: CatalogTable, node: CatalogNode, service: CatalogService): CatalogCheck[] {
  const checks = catalog.checks(node.Node);
  return [
    ...checks.filter((check) => check.ServiceID === ''),
    ...checks.filter((check) => check.ServiceID === service.ID),
  ];
}

function fullService(service: CatalogService): unknown {
  const { CreateIndex, ModifyIndex, ...rest } = service;
  return { ...rest, Proxy: { MeshGateway: {}, Expose: {} }, Connect: {}, CreateIndex, ModifyIndex };
}

function flatService(node: CatalogNode, service: CatalogService): unknown {
  return {
    ID: node.ID,
    Node: node.Node,
    Address: node.Address,
    Datacenter: node.Datacenter,
    TaggedAddresses: node.TaggedAddresses,
    NodeMeta: node.Meta,
    ServiceKind: '',
    ServiceID: service.ID,
    ServiceName: service.Service,
    ServiceTags: service.Tags,
    ServiceAddress: service.Address,
    ...(service.TaggedAddresses === undefined ? {} : { ServiceTaggedAddresses: service.TaggedAddresses }),
    ServiceWeights: service.Weights,
    ServiceMeta: service.Meta ?? {},
    ServicePort: service.Port,
    ServiceEnableTagOverride: service.EnableTagOverride,
    ServiceProxy: { MeshGateway: {}, Expose: {} },
    ServiceConnect: {},
    CreateIndex: service.CreateIndex,
    ModifyIndex: service.ModifyIndex,
  };
}

const PREFIX = 'Request decode failed';
const REGISTER_FIELDS: Fields = {
  ID: 'string',
  Node: 'string',
  Address: 'string',
  Datacenter: 'string',
  TaggedAddresses: 'map',
  NodeMeta: 'map',
  Service: 'any',
  Check: 'any',
  Checks: 'any',
  SkipNodeUpdate: 'bool',
};
const SERVICE_FIELDS: Fields = {
  ID: 'string',
  Service: 'string',
  Tags: 'strings',
  Address: 'string',
  Meta: 'map',
  Port: 'int',
  EnableTagOverride: 'bool',
};
const CHECK_FIELDS: Fields = {
  Node: 'string',
  CheckID: 'string',
  Name: 'string',
  Status: 'string',
  Notes: 'string',
  Output: 'string',
  ServiceID: 'string',
  Type: 'string',
};
const DEREGISTER_FIELDS: Fields = { Node: 'string', Datacenter: 'string', ServiceID: 'string', CheckID: 'string' };

/** Registers a node, its service and its checks in the catalog, without an agent. */
async function register(state: AgentState, request: AgentRequest, datacenter: string): Promise<AgentResponse> {
  const given = decodeStruct(parseJson(await request.body(), PREFIX), REGISTER_FIELDS, PREFIX, 'ignore');
  const node = given.string('Node');
  if (node === '') throw new Refusal(500, 'Must provide node');
  if (given.string('Address') === '' && !given.bool('SkipNodeUpdate'))
    throw new Refusal(500, 'Must provide address if SkipNodeUpdate is not set');
  const known = state.catalog.node(node);
  if (!given.bool('SkipNodeUpdate') || known === undefined) {
    state.putNode({
      ID: given.string('ID') || (known?.ID ?? ''),
      Node: node,
      Address: given.string('Address'),
      Datacenter: datacenter,
      TaggedAddresses: given.map('TaggedAddresses') ?? null,
      Meta: given.map('NodeMeta') ?? null,
    });
  }
  if (given.has('Service'))
    putService(state, node, decodeStruct(given.any('Service'), SERVICE_FIELDS, PREFIX, 'ignore'));
  const checks = given.any('Checks');
  for (const item of [...(given.has('Check') ? [given.any('Check')] : []), ...(Array.isArray(checks) ? checks : [])]) {
    putCheck(state, node, decodeStruct(item, CHECK_FIELDS, PREFIX, 'ignore'));
  }
  return json(true, request);
}

function putService(state: AgentState, node: string, given: Decoded): void {
  const name = given.string('Service');
  if (name === '') throw new Refusal(500, 'Must provide service name with ID');
  state.putService(node, {
    ID: given.string('ID') || name,
    Service: name,
    Tags: given.strings('Tags') ?? [],
    Address: given.string('Address'),
    Meta: given.map('Meta') ?? null,
    Port: given.number('Port'),
    Weights: { Passing: 1, Warning: 1 },
    EnableTagOverride: given.bool('EnableTagOverride'),
  });
}

function putCheck(state: AgentState, node: string, given: Decoded): void {
  const serviceId = given.string('ServiceID');
  if (serviceId !== '' && state.catalog.service(node, serviceId) === undefined) {
    throw new Refusal(500, `Missing service registration`);
  }
  const status = given.string('Status');
  state.putCheck({
    Node: node,
    CheckID: given.string('CheckID') || given.string('Name'),
    Name: given.string('Name'),
    Status: status === 'passing' || status === 'warning' ? status : 'critical',
    Notes: given.string('Notes'),
    Output: given.string('Output'),
    ServiceID: serviceId,
    Type: given.string('Type'),
    Definition: {},
  });
}

async function deregister(state: AgentState, request: AgentRequest): Promise<AgentResponse> {
  const given = decodeStruct(parseJson(await request.body(), PREFIX), DEREGISTER_FIELDS, PREFIX, 'ignore');
  const node = given.string('Node');
  if (node === '') throw new Refusal(500, 'Must provide node');
  if (given.string('ServiceID') !== '') state.deleteService(node, given.string('ServiceID'));
  else if (given.string('CheckID') !== '') state.deleteCheck(node, given.string('CheckID'));
  else state.deleteNode(node);
  return json(true, request);
}
