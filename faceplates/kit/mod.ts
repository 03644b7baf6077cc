// The kit for authors of faceplates, published as `katamari/faceplate`. Built-in faceplates use it too, and import
// the rest from core.

export { type ArgumentCodec, FaceplateCalls, type JsonAnswer, type Outcome } from './calls.ts';
export type { Faceplate, FaceplateContext, FaceplateModule } from './faceplate.ts';
export { serveLines } from './line-server.ts';
export { type MethodName, parseMethodName } from './method-name.ts';
export { remoteAddress, serveHttp } from '../../core/http/mod.ts';
/**
 * Reads version, timeout, sticky key, tags, roles and trace of a call from headers.
 * @throws KatamariError bad_request when the value of a header is invalid
 * @example
 * const headers = parseCallHeaders({ 'katamari-timeout-ms': '500' });
 * const outcome = await calls.json({ target, headers, caller, signal }, params);
 */
export { parseCallHeaders } from '../../core/rpc/mod.ts';
/**
 * `KatamariError` is the only error type of the mesh. `ERROR_TABLE` gives the HTTP status and the JSON-RPC code of
 * each error code.
 * @example
 * throw new KatamariError('bad_request', 'Expected JSON after the method');
 * @example
 * return new Response(error.message, { status: ERROR_TABLE[error.code].http });
 */
export { ERROR_TABLE, KatamariError } from '../../core/mod.ts';
