// The chassis of the bench. It returns its argument. `echo-chassis.ts IDL-FILE [CONCURRENCY [VERSION]]`.
// ECHO_FAULT makes its calls fail: slow, crash or hang.

import { chassis } from '../chassis-sdk/typescript/mod.ts';

const { ECHO_FAULT: fault = '' } = process.env;
const faults: Readonly<Record<string, () => Promise<unknown>>> = {
  slow: () => new Promise((resolve) => setTimeout(resolve, 100)),
  crash: () => process.exit(3),
  hang: () => new Promise(() => undefined),
};
const fail = faults[fault];

const [idl = '', concurrency = '1', version = '1.0.0'] = process.argv.slice(2);
await chassis({
  idl,
  service: 'Echo',
  version,
  concurrency: Number(concurrency),
  handlers: {
    echo: ({ value }: { value: string }) => (fail === undefined ? value : fail().then(() => value)),
  },
});
console.log('ready');
