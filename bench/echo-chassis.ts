// The chassis of the bench. It returns its argument. `echo-chassis.ts IDL-FILE [CONCURRENCY [VERSION]]`.
// ECHO_FAULT makes its calls fail: slow, crash or hang. With ECHO_MS, a call takes so long without using a processor.

import { chassis } from '../chassis-sdk/typescript/mod.ts';

const { ECHO_FAULT: fault = '', ECHO_MS: workMs = '' } = process.env;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const faults: Readonly<Record<string, () => Promise<unknown>>> = {
  slow: () => pause(100),
  crash: () => process.exit(3),
  hang: () => new Promise(() => undefined),
};
const work = faults[fault] ?? (workMs === '' ? undefined : () => pause(Number(workMs)));

const [idl = '', concurrency = '1', version = '1.0.0'] = process.argv.slice(2);
await chassis({
  idl,
  service: 'Echo',
  version,
  concurrency: Number(concurrency),
  handlers: {
    echo: ({ value }: { value: string }) => (work === undefined ? value : work().then(() => value)),
  },
});
console.log('ready');
