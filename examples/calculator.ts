// Calculator, the sample to read first: the service of the Apache Thrift tutorial as a chassis. It shows all that a
// chassis needs: the path of the IDL, the service name, and one function per method, which gets its arguments by
// name.
import { chassis, ThriftException } from 'katamari';
import { NoResult, Operation, evaluate } from './arithmetic.ts';

const logSizeMax = 1000;
const log = new Map<number, string>();

await chassis({
  idl: new URL('./calculator.thrift', import.meta.url),
  service: 'Calculator',
  version: '1.0.0',
  tags: ['sample'],
  handlers: {
    ping() {},
    // An exception that the IDL does not declare reaches the caller as an error with this message.
    add: ({ num1, num2 }: { num1: number; num2: number }) => evaluate(Operation.add, num1, num2),
    calculate({ logid, w }: { logid: number; w: { num1: number; num2: number; op: number } }) {
      try {
        const result = evaluate(w.op, w.num1, w.num2);
        remember(logid, String(result));
        return result;
      } catch (error) {
        if (error instanceof NoResult)
          throw new ThriftException('InvalidOperation', { whatOp: w.op, why: error.message });
        throw error;
      }
    },
    zip() {},
    getStruct: ({ key }: { key: number }) => ({ key, value: log.get(key) ?? '' }),
  },
});

function remember(logid: number, result: string): void {
  log.delete(logid);
  log.set(logid, result);
  if (log.size > logSizeMax) log.delete(log.keys().next().value!);
}
