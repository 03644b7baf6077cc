// Calls the Calculator with generated code and the `thrift` package, without Katamari code.
//
//     thrift -r --gen js:node,es6 ../calculator.thrift
//     npm install thrift
//     node calculator.cjs [PORT]

'use strict';
const thrift = require('thrift');
const Calculator = require('./gen-nodejs/Calculator.js');
const { InvalidOperation, Operation, Work } = require('./gen-nodejs/calculator_types.js');

const port = Number(process.argv[2] ?? 9090);

/** Calls of this package never time out, even if the connection fails, so each gets a timeout here. */
function within(connection, ms, call) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
    connection.once('error', reject);
    call.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      connection.off('error', reject);
    });
  });
}

function connect() {
  return thrift.createConnection('127.0.0.1', port, {
    transport: thrift.TFramedTransport,
    protocol: thrift.TBinaryProtocol,
    connect_timeout: 5_000,
  });
}

async function main() {
  const connection = connect();
  const client = thrift.createClient(Calculator, connection);
  // The mesh has its own timeout, 10 s by default.
  const call = (started) => within(connection, 12_000, started);
  console.log(`2 + 40 = ${await call(client.add(2, 40))}`);
  try {
    await call(client.calculate(1, new Work({ num1: 1, num2: 0, op: Operation.DIVIDE })));
  } catch (error) {
    if (!(error instanceof InvalidOperation)) throw error; // declared in the IDL
    console.log(`1 / 0: ${error.why}`);
  }
  try {
    await call(client.add(2 ** 31 - 1, 1));
  } catch (error) {
    // An error of the mesh, or an undeclared error of the handler.
    if (!(error instanceof thrift.Thrift.TApplicationException)) throw error;
    console.log(`error ${error.type}: ${error.message}`);
  }
  connection.end();

  // Select the service and its version with the multiplexer.
  const second = connect();
  const named = new thrift.Multiplexer().createClient('Calculator@^1', Calculator, second);
  const work = new Work({ num1: 15, num2: 10, op: Operation.SUBTRACT });
  console.log(`15 - 10 = ${await within(second, 12_000, named.calculate(1, work))}`);
  second.end();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
