// A typical Apache Thrift server: generated code, framed transport, binary protocol.
// `thrift-server.mjs PORT GENERATED-FOLDER`

import { createRequire } from 'node:module';
import path from 'node:path';
import thrift from 'thrift';

const [port = '', generated = ''] = process.argv.slice(2);
const Echo = createRequire(import.meta.url)(path.resolve(generated, 'Echo.js'));
const handler = { echo: (value, result) => result(null, value) };
thrift
  .createServer(Echo, handler, { transport: thrift.TFramedTransport, protocol: thrift.TBinaryProtocol })
  .listen(Number(port), '127.0.0.1', () => console.log('ready'));
