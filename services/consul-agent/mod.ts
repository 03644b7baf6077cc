// The door of services/consul-agent: what other rooms may import.

export { startConsulAgent, type ConsulAgent, type ConsulAgentOptions } from './agent.ts';
