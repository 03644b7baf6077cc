// Written by `katamari types calculator.thrift`. Do not edit: change the IDL and write it again.

import type { HandlerContext } from 'katamari';
import type { CallOptions } from 'katamari/client';

/** What to do with the two numbers. */
export const Operation = {
  ADD: 1,
  SUBTRACT: 2,
  MULTIPLY: 3,
  DIVIDE: 4,
} as const;
export type Operation = (typeof Operation)[keyof typeof Operation];

/**
 * The calculation has no answer: a division by zero, an unknown operation, a result that does not fit an i32.
 *
 * Thrown as `new ThriftException('InvalidOperation', { ... })`.
 */
export interface InvalidOperation {
  /** Number of the operation that was asked for. */
  whatOp: number;
  /** What is wrong with it, for people. */
  why: string;
}

/** An entry of the calculator's log. */
export interface SharedStruct {
  /** The log id the calculation was made under. */
  key: number;
  /** Its result as decimal digits; empty when this copy has no calculation under that id. */
  value: string;
}

/** One calculation. */
export interface Work {
  /** The left number. */
  num1: number;
  /** The right number. */
  num2: number;
  op: Operation;
  /** For people who read the request; the calculator ignores it. */
  comment?: string | undefined;
}

export const INT32CONSTANT: number = 9853;

export const MAPCONSTANT: Map<string, string> = new Map([
  ['hello', 'world'],
  ['goodnight', 'moon'],
]);

/** Whole-number arithmetic with results that fit an i32. */
export type CalculatorHandlers = {
  /**
   * The result that `calculate` logged under this id. Copies of a chassis share no memory: each knows the
   * calculations it made itself, the latest 1000 of them.
   */
  getStruct: (args: { key: number }, ctx: HandlerContext) => SharedStruct | Promise<SharedStruct>;
  /** Does nothing, and answers: a call to try first. */
  ping: (args: Record<string, never>, ctx: HandlerContext) => void | Promise<void>;
  /** num1 + num2. A sum that does not fit an i32 is an error, never a wrapped number. */
  add: (args: { num1: number; num2: number }, ctx: HandlerContext) => number | Promise<number>;
  /**
   * Works out `w` and logs the result under `logid`, for `getStruct`. The same work under the same id may safely be
   * sent again.
   */
  calculate: (args: { logid: number; w: Work }, ctx: HandlerContext) => number | Promise<number>;
  /** A oneway method: the client does not wait, and no answer is ever sent. */
  zip: (args: Record<string, never>, ctx: HandlerContext) => void | Promise<void>;
};

/** Calculator as its callers see it: `mesh.service<Calculator>('Calculator')`. */
export type Calculator = {
  /**
   * The result that `calculate` logged under this id. Copies of a chassis share no memory: each knows the
   * calculations it made itself, the latest 1000 of them.
   */
  getStruct: (args: { key: number }, options?: CallOptions) => Promise<SharedStruct>;
  /** Does nothing, and answers: a call to try first. */
  ping: (args?: Record<string, never>, options?: CallOptions) => Promise<void>;
  /** num1 + num2. A sum that does not fit an i32 is an error, never a wrapped number. */
  add: (args: { num1: number; num2: number }, options?: CallOptions) => Promise<number>;
  /**
   * Works out `w` and logs the result under `logid`, for `getStruct`. The same work under the same id may safely be
   * sent again.
   */
  calculate: (args: { logid: number; w: Work }, options?: CallOptions) => Promise<number>;
  /** A oneway method: the client does not wait, and no answer is ever sent. */
  zip: (args?: Record<string, never>, options?: CallOptions) => Promise<void>;
};
