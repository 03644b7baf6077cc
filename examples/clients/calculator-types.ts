// Written by `katamari types calculator.thrift`. Do not edit: change the IDL and write it again.

import type { HandlerContext } from 'katamari';
import type { CallOptions } from 'katamari/client';

/** The operation. */
export const Operation = {
  ADD: 1,
  SUBTRACT: 2,
  MULTIPLY: 3,
  DIVIDE: 4,
} as const;
export type Operation = (typeof Operation)[keyof typeof Operation];

/**
 * The calculation has no result: a division by zero, an unknown operation, or a result that does not fit an i32.
 *
 * Thrown as `new ThriftException('InvalidOperation', { ... })`.
 */
export interface InvalidOperation {
  /** The requested operation. */
  whatOp: number;
  /** Why there is no result. */
  why: string;
}

/** An entry of the calculator's log. */
export interface SharedStruct {
  /** The log id of the calculation. */
  key: number;
  /** The result as decimal digits; empty if this copy has no calculation with that id. */
  value: string;
}

/** One calculation. */
export interface Work {
  /** The left number. */
  num1: number;
  /** The right number. */
  num2: number;
  op: Operation;
  /** A comment for readers of the request; the calculator ignores it. */
  comment?: string | undefined;
}

export const INT32CONSTANT: number = 9853;

export const MAPCONSTANT: Map<string, string> = new Map([
  ['hello', 'world'],
  ['goodnight', 'moon'],
]);

/** Integer arithmetic with results that fit an i32. */
export type CalculatorHandlers = {
  /**
   * Returns the result that `calculate` logged under this id. Copies of a chassis share no memory: each copy has only
   * its own calculations, the latest 1000.
   */
  getStruct: (args: { key: number }, ctx: HandlerContext) => SharedStruct | Promise<SharedStruct>;
  /** Does nothing and returns. Useful as a first call. */
  ping: (args: Record<string, never>, ctx: HandlerContext) => void | Promise<void>;
  /** Returns num1 + num2. A sum that does not fit an i32 is an error; it never wraps. */
  add: (args: { num1: number; num2: number }, ctx: HandlerContext) => number | Promise<number>;
  /** Calculates `w` and logs the result under `logid`, for `getStruct`. The call is idempotent. */
  calculate: (args: { logid: number; w: Work }, ctx: HandlerContext) => number | Promise<number>;
  /** A oneway method: the client does not wait, and there is no reply. */
  zip: (args: Record<string, never>, ctx: HandlerContext) => void | Promise<void>;
};

/** Calculator as its callers see it: `mesh.service<Calculator>('Calculator')`. */
export type Calculator = {
  /**
   * Returns the result that `calculate` logged under this id. Copies of a chassis share no memory: each copy has only
   * its own calculations, the latest 1000.
   */
  getStruct: (args: { key: number }, options?: CallOptions) => Promise<SharedStruct>;
  /** Does nothing and returns. Useful as a first call. */
  ping: (args?: Record<string, never>, options?: CallOptions) => Promise<void>;
  /** Returns num1 + num2. A sum that does not fit an i32 is an error; it never wraps. */
  add: (args: { num1: number; num2: number }, options?: CallOptions) => Promise<number>;
  /** Calculates `w` and logs the result under `logid`, for `getStruct`. The call is idempotent. */
  calculate: (args: { logid: number; w: Work }, options?: CallOptions) => Promise<number>;
  /** A oneway method: the client does not wait, and there is no reply. */
  zip: (args?: Record<string, never>, options?: CallOptions) => Promise<void>;
};
