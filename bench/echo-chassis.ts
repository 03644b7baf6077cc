// The chassis of the bench. It returns its argument. `echo-chassis.ts IDL-FILE [CONCURRENCY [VERSION]]`

import { chassis } from '../chassis-sdk/typescript/mod.ts';

const [idl = '', concurrency = '1', version = '1.0.0'] = process.argv.slice(2);
await chassis({
  idl,
  service: 'Echo',
  version,
  concurrency: Number(concurrency),
  handlers: { echo: ({ value }: { value: string }) => value },
});
console.log('ready');
