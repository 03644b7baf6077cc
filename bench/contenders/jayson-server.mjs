// A JSON-RPC server over HTTP with the jayson package. `jayson-server.mjs PORT`

import jayson from 'jayson';

const [port = ''] = process.argv.slice(2);
new jayson.Server({ echo: ({ value }, done) => done(null, value) })
  .http()
  .listen(Number(port), '127.0.0.1', () => console.log('ready'));
