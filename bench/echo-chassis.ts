// The chassis of the bench. It returns its argument. `echo-chassis.ts IDL-FILE [CONCURRENCY]`

import { chassis } from '../chassis-sdk/typescript/mod.ts';

const [idl = '', concurrency = '1'] = process.argv.slice(2);
await chassis({
  idl,
  service: 'Echo',
  version: '1.0.0',
  concurrency: Number(concurrency),
  handlers: { echo: ({ value }: { value: string }) => value },
});
console.log('ready');
