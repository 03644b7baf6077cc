// The arithmetic of the calculator: takes integers and returns an integer that fits an i32, or throws NoResult with
// the reason.

/** Operation numbers, as in `calculator.thrift`. */
export const Operation = { add: 1, subtract: 2, multiply: 3, divide: 4 } as const;

/** The calculation has no result; the message says why. */
export class NoResult extends Error {
  override readonly name = 'NoResult';
}

/**
 * Calculates `num1 op num2`. Throws NoResult for a division by zero, an unknown operation, or a result that does not
 * fit an i32.
 */
export function evaluate(op: number, num1: number, num2: number): number {
  switch (op) {
    case Operation.add:
      return fitI32(num1 + num2, `${num1} + ${num2}`);
    case Operation.subtract:
      return fitI32(num1 - num2, `${num1} - ${num2}`);
    case Operation.multiply:
      return fitI32(num1 * num2, `${num1} * ${num2}`);
    case Operation.divide:
      if (num2 === 0) throw new NoResult(`Cannot divide ${num1} by 0`);
      return fitI32(Math.trunc(num1 / num2), `${num1} / ${num2}`);
    default:
      throw new NoResult(`Unknown operation ${op}: it is 1 (ADD), 2 (SUBTRACT), 3 (MULTIPLY) or 4 (DIVIDE)`);
  }
}

function fitI32(value: number, what: string): number {
  if (value > 2_147_483_647 || value < -2_147_483_648) {
    throw new NoResult(`${what} = ${value} does not fit an i32: results are -2147483648 to 2147483647`);
  }
  // Turn -0 into 0, so that the log never shows "-0".
  return value + 0;
}
