// A single-threaded worker behind HAProxy: JSON-RPC over node:http without a library.
// `http-worker.mjs PORT`

import { createServer } from 'node:http';

const [port = ''] = process.argv.slice(2);
createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const { id, params } = JSON.parse(Buffer.concat(parts).toString());
    const answer = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, result: params.value }));
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length });
    response.end(answer);
  });
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));
