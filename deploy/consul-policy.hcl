# What a Katamari process may do in Consul, and no more. "main" is the name of the mesh (the key `mesh` of katamari.yaml).
# `consul acl policy create -name katamari-main -rules @deploy/consul-policy.hcl`, then a token with this policy for every process.

# Its documents: who is there, who leads, what is to run.
key_prefix "katamari/main/" {
  policy = "write"
}

# A session keeps a process's own keys for as long as it lives. Consul knows sessions by their node, so a narrower rule names nodes.
session_prefix "" {
  policy = "write"
}

# Each listener is a service (katamari-manager, katamari-thrift, ...) with a health check.
service_prefix "katamari-" {
  policy = "write"
}

# The name of the agent's node, asked for when an agent that was restarted does not tell its servers of a check. Consul keeps
# agents by the names of their nodes too.
agent_prefix "" {
  policy = "read"
}

# Prometheus (consul_sd_configs), Consul's UI and `katamari doctor` see services only on nodes that they may read.
node_prefix "" {
  policy = "read"
}
