// Settings of all Moleculer processes: its TCP transporter with static addresses, and no optional features, which
// would cost time.

import { ServiceBroker } from 'moleculer';

/** @param ports the ports of the nodes by name, such as `service:4001,gateway:4002` */
export function broker(nodeID, ports) {
  const nodes = ports.split(',').map((one) => one.split(':'));
  const own = nodes.find(([name]) => name === nodeID);
  return new ServiceBroker({
    nodeID,
    logger: false,
    transporter: {
      type: 'TCP',
      options: {
        udpDiscovery: false,
        port: Number(own[1]),
        urls: nodes.map(([name, port]) => `tcp://127.0.0.1:${port}/${name}`),
      },
    },
  });
}
