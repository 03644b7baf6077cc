// One worker of a NATS queue group. `nats-worker.mjs PORT-OF-NATS-SERVER`

import { connect } from '@nats-io/transport-node';

const [port = ''] = process.argv.slice(2);
const connection = await connect({ servers: `127.0.0.1:${port}` });
connection.subscribe('echo', { queue: 'workers', callback: (_error, message) => message.respond(message.data) });
await connection.flush();
console.log('ready');
