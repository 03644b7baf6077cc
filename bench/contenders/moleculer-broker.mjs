// The settings that all Moleculer processes share: its own TCP transporter between addresses that are known, nothing
// that costs extra.

import { ServiceBroker } from 'moleculer';

/** @param ports of the nodes by name, as `service:4001,gateway:4002` */
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
