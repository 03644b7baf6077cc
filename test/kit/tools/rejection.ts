// The error that a promise rejects with, for runtimes whose expect().rejects differs.

import { KatamariError } from '../../../core/mod.ts';

/** @throws Error when it does not reject */
export async function rejectionOf(promise: Promise<unknown>): Promise<unknown> {
  let value: unknown;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`Expected a rejection, got ${String(value)}`);
}

/** @throws Error when it does not reject with KatamariError */
export async function refusalOf(promise: Promise<unknown>): Promise<KatamariError> {
  const error = await rejectionOf(promise);
  if (error instanceof KatamariError) return error;
  throw new Error(`Expected a KatamariError, got ${String(error)}`, { cause: error });
}
