// Calls the remote service from a broker, with a fixed number of calls in flight.
// `moleculer-caller.mjs PORTS IN-FLIGHT SECONDS WARM-UP BYTES`

import { broker } from './moleculer-broker.mjs';
import { measure } from './closed-loop.mjs';

const [ports = '', inFlight = '', seconds = '', warmUp = '', bytes = ''] = process.argv.slice(2);
const own = broker('caller', ports);
await own.start();
await own.waitForServices('echo');
const value = 'x'.repeat(Number(bytes));
await measure(
  (sent) => own.call('echo.echo', { value: sent }),
  value,
  Number(inFlight),
  Number(seconds),
  Number(warmUp),
);
await own.stop();
process.exit(0);
