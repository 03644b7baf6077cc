// The Exchange service as the client types it, and clients that end with their test.

import { afterEach } from 'vitest';
import { connect, type CallOptions, type ConnectOptions, type Mesh } from '../../client/mod.ts';
import { EXCHANGE_IDL, type Item } from '../kit/wire/exchange.ts';

export type ExchangeCalls = {
  add: (args: { a: number; b: number }, options?: CallOptions) => Promise<number>;
  echo: (args: { text: string }, options?: CallOptions) => Promise<string>;
  turn: (args: { item: Item }, options?: CallOptions) => Promise<Item>;
  refuse: (args: { why: string }, options?: CallOptions) => Promise<void>;
  fail: (args: { why: string }, options?: CallOptions) => Promise<void>;
  hold: (args: { key: string }, options?: CallOptions) => Promise<string>;
  note: (args: { text: string }, options?: CallOptions) => Promise<void>;
};

const open: Mesh[] = [];

afterEach(() => {
  for (const mesh of open.splice(0)) mesh.close();
});

/** A client that is closed after the test, and Exchange by its IDL. */
export function client(
  addresses: string | readonly string[],
  options: Omit<ConnectOptions, 'addresses'> = {},
): { mesh: Mesh; exchange: ExchangeCalls } {
  const mesh = connect({ addresses, ...options });
  open.push(mesh);
  return { mesh, exchange: mesh.service<ExchangeCalls>('Exchange', { idl: EXCHANGE_IDL }) };
}
