// What an app on the HTTP server (server.ts) gets with a request beside the request itself: its body, the signal and
// the address of the client, the account of its connection, and responses whose body comes in parts.

import type { ByteAccount } from '../mod.ts';
import type { HttpConnection } from './connection-table.ts';
import type { PartedBody } from './parted-body.ts';

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { HttpBindings } from '@hono/node-server';

export const CONNECTION: unique symbol = Symbol('connection');

/** The `c.env` of a Hono app. */
export type HttpEnv = HttpBindings;

/** A request that the server serves. @hono/node-server takes the body from `rawBody` when it is set. */
export type TakenRequest = IncomingMessage & { rawBody?: Buffer; [CONNECTION]?: HttpConnection };

/** Returns the body of the request: complete, within the limit, empty when there was none. */
export function requestBody(env: HttpEnv): Buffer {
  return (env.incoming as TakenRequest).rawBody ?? NO_BODY;
}

/**
 * Returns a signal that aborts when the client disconnects. It is created on first use, and all requests of a
 * connection share it. `request.signal` works too, but costs an AbortController per request.
 */
export function clientSignal(env: HttpEnv): AbortSignal {
  return connectionOf(env.incoming as IncomingMessage).signal;
}

/**
 * Returns the address of the client, for example `127.0.0.1`; '' when it has already disconnected.
 * @example
 * const caller = `${context.name} ${remoteAddress(env)}`;
 */
export function remoteAddress(env: HttpEnv): string {
  return addressOf(env.incoming.socket);
}

/** The address of the other side; '' when it has disconnected. */
export function addressOf(socket: Socket): string {
  const address = socket.remoteAddress ?? '';
  return address.startsWith('::ffff:') ? address.slice(7) : address;
}

/** Returns the account of the connection. */
export function clientAccount(env: HttpEnv): ByteAccount {
  return connectionOf(env.incoming as IncomingMessage).account;
}

/** Writes a response whose body comes in parts, as far as the client reads. */
export function writeParted(env: HttpEnv, status: number, headers: Record<string, string>, body: PartedBody): void {
  const outgoing = env.outgoing as ServerResponse;
  const length = body.length === undefined ? {} : { 'content-length': String(body.length) };
  outgoing.writeHead(status, { ...headers, ...length });
  let isBlocked = false;
  const write = (): void => {
    let hasTaken = false;
    while (!isBlocked) {
      const part = body.take();
      if (part === undefined) break;
      hasTaken = true;
      isBlocked = !outgoing.write(part);
    }
    if (body.isDone) outgoing.end();
    else if (hasTaken) body.onTaken?.();
  };
  body.onMore = write;
  outgoing.on('drain', () => {
    isBlocked = false;
    write();
  });
  outgoing.once('close', () => body.drop());
  write();
}

/** The connection of a request that the server has taken. */
export function connectionOf(incoming: IncomingMessage): HttpConnection {
  return (incoming as TakenRequest)[CONNECTION] as HttpConnection;
}

const NO_BODY = Buffer.alloc(0);
