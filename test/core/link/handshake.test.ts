// The handshake of links as bytes: cut anywhere, and against peers that send arbitrary bytes. A failure prints its
// seed.

import { describe, expect, test } from 'vitest';
import { ClientHandshake, ServerHandshake } from '../../../core/link/handshake.ts';
import { KatamariError } from '../../../core/mod.ts';
import { Random } from '../../kit/tools/random.ts';

const SECRET = 'a long and random secret of the mesh';
const BEHIND = Buffer.from('what the other side sends after it');
const seed = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 2 ** 32);

interface Side {
  readonly push: (chunk: Buffer) => Buffer | undefined;
  readonly out: Buffer[];
}

function sides(clientSecret = SECRET, ...serverSecrets: readonly string[]): { client: Side; server: Side } {
  const [clientOut, serverOut]: [Buffer[], Buffer[]] = [[], []];
  const client = new ClientHandshake(clientSecret, 'the server', (bytes) => void clientOut.push(bytes));
  const server = new ServerHandshake(
    serverSecrets.length === 0 ? [SECRET] : serverSecrets,
    (bytes) => void serverOut.push(bytes),
  );
  client.begin();
  return {
    client: { push: (chunk) => client.push(chunk), out: clientOut },
    server: { push: (chunk) => server.push(chunk), out: serverOut },
  };
}

/**
 * Passes one side's output to the other, split at `cut`. Returns the bytes left over from the last piece, or
 * undefined.
 */
function carry(from: Side, to: Side, cut: number, behind: Buffer = Buffer.alloc(0)): Buffer | undefined {
  const bytes = Buffer.concat([...from.out.splice(0), behind]);
  const first = to.push(bytes.subarray(0, cut));
  const rest = bytes.subarray(cut);
  if (first !== undefined) return Buffer.concat([first, rest]);
  return rest.length === 0 ? undefined : to.push(rest);
}

describe('The handshake', () => {
  test('completes wherever its messages are cut, and keeps the bytes that follow', () => {
    for (let cut = 0; cut <= 110; cut++) {
      const { client, server } = sides();
      expect(carry(client, server, cut)).toBeUndefined();
      expect(carry(server, client, cut)).toBeUndefined();
      expect(carry(client, server, cut, BEHIND)?.equals(BEHIND)).toBe(true);
      expect(carry(server, client, cut, BEHIND)?.equals(BEHIND)).toBe(true);
    }
  });

  test('completes when every byte arrives alone', () => {
    const { client, server } = sides();
    const drip = (from: Side, to: Side): Buffer | undefined => {
      const bytes = Buffer.concat(from.out.splice(0));
      let rest: Buffer | undefined;
      for (const byte of bytes) {
        expect(rest).toBeUndefined();
        rest = to.push(Buffer.from([byte]));
      }
      return rest;
    };
    expect([drip(client, server), drip(server, client)]).toEqual([undefined, undefined]);
    expect([drip(client, server)?.length, drip(server, client)?.length]).toEqual([0, 0]);
  });

  test('fails at the server when the secrets differ, and the client is told', () => {
    const { client, server } = sides(SECRET, `${SECRET}.`);
    carry(client, server, 0);
    carry(server, client, 0);
    expect(() => carry(client, server, 0)).toThrow(/The secrets differ/);
    expect(() => carry(server, client, 0)).toThrow(/the server refused this side: The secrets differ/);
  });

  test('accepts each of the secrets of the server, so that a secret can be replaced in a running mesh', () => {
    for (const known of [SECRET, 'the secret before the rotation']) {
      const { client, server } = sides(known, SECRET, 'the secret before the rotation');
      carry(client, server, 0);
      carry(server, client, 0);
      expect(carry(client, server, 0)).toBeDefined();
      expect(carry(server, client, 0)).toBeDefined();
    }
    const { client, server } = sides('the secret before that', SECRET, 'the secret before the rotation');
    carry(client, server, 0);
    carry(server, client, 0);
    expect(() => carry(client, server, 0)).toThrow(/The secrets differ/);
  });

  test('uses fresh nonces and proofs every time', () => {
    const seen = new Set<string>();
    for (let i = 0; i < 50; i++) {
      const { client, server } = sides();
      for (const [from, to] of [
        [client, server],
        [server, client],
        [client, server],
        [server, client],
      ] as const) {
        seen.add(Buffer.concat(from.out).toString('hex'));
        carry(from, to, 0);
      }
    }
    expect(seen.size).toBe(200);
  });

  test('never completes with a peer that does not know the secret, whatever bytes it sends and wherever they are cut', () => {
    const random = new Random(seed);
    let denials = 0;
    for (let run = 0; run < 3_000; run++) {
      const { client, server } = sides();
      const fed = random.chance(0.5) ? server : client;
      try {
        // Some replay a recorded good handshake with changes; some follow this handshake halfway.
        const heard = recorded();
        const pieces = random.chance(0.3)
          ? [random.bytes(random.below(400))]
          : (fed === server ? heard.client : heard.server).map((message) => mutated(message, random));
        if (random.chance(0.5)) carry(client, server, 0);
        if (fed === client && random.chance(0.5)) carry(server, client, 0);
        for (const chunk of cutUp(Buffer.concat(pieces), random)) {
          if (fed.push(chunk) !== undefined) throw new Error('an unauthenticated peer was accepted');
        }
      } catch (error) {
        if (!(error instanceof KatamariError))
          throw new Error(`seed ${seed}, run ${run}: ${String(error)}`, { cause: error });
        expect(['denied', 'bad_request', 'too_large']).toContain(error.code);
        denials++;
      }
    }
    expect(denials).toBeGreaterThan(1_000);
  });

  test('buffers at most a small frame and one chunk from an unauthenticated peer', () => {
    const { server } = sides();
    expect(server.push(Buffer.from('000000ff', 'hex'))).toBeUndefined();
    expect(() => server.push(Buffer.alloc(1 << 16))).toThrow(KatamariError);
    const another = sides().server;
    expect(() => another.push(Buffer.from('00000101', 'hex'))).toThrow(/257 bytes, limit is 256/);
  });
});

/** The bytes that both sides of a good handshake sent. */
function recorded(): { client: Buffer[]; server: Buffer[] } {
  const { client, server } = sides();
  const heard = { client: [] as Buffer[], server: [] as Buffer[] };
  for (let i = 0; i < 2; i++) {
    heard.client.push(Buffer.concat(client.out));
    carry(client, server, 0);
    heard.server.push(Buffer.concat(server.out));
    carry(server, client, 0);
  }
  return heard;
}

function mutated(message: Buffer, random: Random): Buffer {
  const bytes = Buffer.from(message);
  switch (random.below(5)) {
    case 0:
      return bytes;
    case 1:
      return bytes.subarray(0, random.below(bytes.length));
    case 2:
      return Buffer.concat([bytes, random.bytes(random.below(20))]);
    default:
      for (let i = random.between(1, 4); i > 0; i--) bytes[random.below(bytes.length)] = random.below(256);
      return bytes;
  }
}

function cutUp(bytes: Buffer, random: Random): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + random.between(1, 1 + random.below(120));
    pieces.push(bytes.subarray(at, end));
    at = end;
  }
  return pieces;
}
