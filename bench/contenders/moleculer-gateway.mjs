// Moleculer's HTTP gateway, which calls the service in the other process. `moleculer-gateway.mjs PORTS HTTP-PORT`

import ApiGateway from 'moleculer-web';
import { broker } from './moleculer-broker.mjs';

const [ports = '', port = ''] = process.argv.slice(2);
const own = broker('gateway', ports);
own.createService({
  mixins: [ApiGateway],
  settings: {
    ip: '127.0.0.1',
    port: Number(port),
    routes: [
      { path: '/api', aliases: { 'POST echo': 'echo.echo' }, bodyParsers: { json: true }, mappingPolicy: 'restrict' },
    ],
  },
});
await own.start();
await own.waitForServices('echo');
console.log('ready');
