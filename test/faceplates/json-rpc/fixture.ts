// A JSON-RPC faceplate on an ephemeral port in front of service Fixture.
import { DEFAULT_LIMITS, type FaceplateLimits } from '../../../core/mod.ts';
import type { Call, Handlers } from '../../../core/rpc/mod.ts';
import { ThriftException } from '../../../core/thrift/mod.ts';
import { startJsonRpcFaceplate } from '../../../faceplates/json-rpc/mod.ts';
import type { JsonRpcFaceplate, JsonRpcFaceplateOptions } from '../../../faceplates/json-rpc/server.ts';
import { idlFixture, testMeshAccess, type PoolText, type TestMeshAccess } from '../../kit/mesh/mesh-access.ts';

export const FIXTURE_IDL: string = idlFixture('fixture.thrift');

export interface JsonRpcFixture {
  readonly mesh: TestMeshAccess;
  readonly server: JsonRpcFaceplate;
  readonly url: string;
  /** Lets a call of `wait` answer. */
  release(name: string): void;
  /** POSTs a body as it is; `path` is what follows the origin. */
  post(body: string | Uint8Array, headers?: Readonly<Record<string, string>>, path?: string): Promise<HttpAnswer>;
  /** One call; its whole answer. */
  call(method: string, params?: unknown, headers?: Readonly<Record<string, string>>): Promise<HttpAnswer>;
  end(): Promise<void>;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The parsed text; undefined when there is none. */
  readonly json: Json;
}

/** What a test looks into without knowing its type. */
export interface Json {
  readonly id?: unknown;
  readonly result?: unknown;
  readonly error?: {
    readonly code: number;
    readonly message: string;
    readonly data?: Readonly<Record<string, unknown>>;
  };
}

/** @param options those of the faceplate, and the pools behind it */
export async function startFixture(
  options: Partial<Pick<JsonRpcFaceplateOptions, 'errorStatus' | 'ledger'>> & {
    /** Origins of pages that may call. */
    readonly origins?: readonly string[];
    readonly limits?: Partial<FaceplateLimits>;
    readonly pools?: (handlers: Handlers<Call>) => readonly PoolText[];
  } = {},
): Promise<JsonRpcFixture> {
  const { origins = [], limits, pools, ...faceplate } = options;
  const waiting = new Map<string, () => void>();
  const handlers: Handlers<Call> = {
    echo: ({ things }: { things: unknown }) => things,
    addLong: ({ a, b }: { a: bigint; b: bigint }) => a + b,
    half: ({ x }: { x: number }) => x / 2,
    strict: ({ strict }: { strict: unknown }) => strict,
    ping: () => {},
    refuse: ({ why, number }: { why: string; number: bigint }) => {
      throw new ThriftException('Refused', { why, number });
    },
    crash: () => {
      throw new Error('a wheel came off');
    },
    tell: () => {},
    mixed: ({ first, second, fourth }: { first: number; second: string; fourth: boolean }) =>
      `${first} ${second} ${fourth}`,
    wait: ({ name }: { name: string }) =>
      new Promise<string>((resolve) => {
        waiting.set(name, () => resolve(name));
      }),
    context: (_args: unknown, call: Call) =>
      new Map([
        ['key', call.key],
        ['tags', call.tags.join(' ')],
        ['roles', call.roles.join(' ')],
        ['traceparent', call.traceparent],
        ['tracestate', call.tracestate],
        ['caller', call.caller],
        ['version', call.version],
        // As many digits however much it is, so that answers of two moments are equally long.
        ['timeLeftMs', String(Math.round(call.deadlineMs - performance.now())).padStart(9, '0')],
      ]),
  };
  const mesh = testMeshAccess(pools?.(handlers) ?? [{ idl: FIXTURE_IDL, service: 'Fixture', handlers }]);
  const server = await startJsonRpcFaceplate({
    mesh,
    callStats: mesh.callStats,
    limits: { ...DEFAULT_LIMITS, ...limits },
    host: '127.0.0.1',
    port: 0,
    access: { hosts: ['x'], origins },
    ...faceplate,
  });
  const url = `http://127.0.0.1:${server.port}`;
  const post: JsonRpcFixture['post'] = async (body, headers = {}, path = '/rpc') => {
    const answer = await fetch(url + path, {
      method: 'POST',
      body: body as string,
      headers: { 'content-type': 'application/json', ...headers },
    });
    const text = await answer.text();
    return {
      status: answer.status,
      headers: answer.headers,
      text,
      json: (text === '' ? undefined : JSON.parse(text)) as Json,
    };
  };
  return {
    mesh,
    server,
    url,
    release: (name) => waiting.get(name)?.(),
    post,
    call: (method, params, headers) => post(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }), headers),
    end: () => server.close(),
  };
}
