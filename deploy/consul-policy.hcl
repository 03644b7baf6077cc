# The minimum rights of a Katamari process in Consul. "main" is the name of the mesh (the key `mesh` of katamari.yaml).
# Create the policy, then a token with this policy for the processes:
#
#   consul acl policy create -name katamari-main -rules @deploy/consul-policy.hcl
#   consul acl token create -description 'mesh main' -policy-name katamari-main

# The state of the mesh: its processes, the leader, the deployments.
key_prefix "katamari/main/" {
  policy = "write"
}

# A session keeps the keys of a process for as long as the process lives. Consul checks this right by the name of the
# node, so a narrower rule has to name nodes.
session_prefix "" {
  policy = "write"
}

# Each listener is a service (katamari-manager, katamari-thrift, ...) with a health check.
service_prefix "katamari-" {
  policy = "write"
}

# To read the node name of the agent. A process needs it if a restarted agent does not report a check to its servers.
# Consul checks this right by the name of the node, too.
agent_prefix "" {
  policy = "read"
}

# Prometheus (consul_sd_configs), the Consul UI and `katamari doctor` see services only on nodes that their token may
# read.
node_prefix "" {
  policy = "read"
}
