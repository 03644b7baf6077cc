// Calls the mesh with katamari/client over one connection, with a fixed number of calls in flight.
// `katamari-caller.mjs ADDRESS IDL-FILE IN-FLIGHT SECONDS WARM-UP BYTES`

import { connect } from '../../dist/client/mod.js';
import { measure } from './closed-loop.mjs';

const [address = '', idl = '', inFlight = '', seconds = '', warmUp = '', bytes = ''] = process.argv.slice(2);
const mesh = connect({ addresses: [address] });
const echo = mesh.service('Echo', { idl });
await measure(
  (value) => echo.echo({ value }),
  'x'.repeat(Number(bytes)),
  Number(inFlight),
  Number(seconds),
  Number(warmUp),
);
mesh.close();
