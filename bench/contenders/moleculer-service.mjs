// A Moleculer service that echoes. `moleculer-service.mjs PORTS`

import { broker } from './moleculer-broker.mjs';

const [ports = ''] = process.argv.slice(2);
const own = broker('service', ports);
own.createService({
  name: 'echo',
  actions: { echo: { params: { value: 'string' }, handler: ({ params }) => params.value } },
});
await own.start();
console.log('ready');
