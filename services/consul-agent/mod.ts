// Exports of services/consul-agent; other modules import only from here.

export { startConsulAgent, type ConsulAgent, type ConsulAgentOptions } from './agent.ts';
