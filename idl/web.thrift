/**
 * Web applications as chassis. The web faceplate passes each HTTP request below a site's prefix to `handle_request`
 * of the site's service, and sends the response to the browser. Include this file and extend the service:
 *
 * include "web.thrift"
 * service Shop extends web.WebApplication {}
 */
namespace * katamari_web

/**
 * One header line. A repeated header, such as Set-Cookie, has one entry per line. Values are sent as UTF-8; a value of
 * a request that is not UTF-8 is read as Latin-1.
 */
struct Header {
  1: required string name
  2: required string value
}

struct Request {
  /** GET, HEAD, POST and so on, as the client sent it. */
  1: required string method
  /** Path as the client sent it, percent-encoded, including the site's prefix: `/shop/cart%20one`. */
  2: required string path
  /** Text after the question mark, as the client sent it; empty for none. */
  3: required string query
  /** Headers in the order of the request, without hop-by-hop headers. */
  4: required list<Header> headers
  5: required binary body
  /** Address of the client: `10.0.0.7`. */
  6: required string remote_address
  /** `http`, or `https` when a trusted proxy says so. */
  7: required string scheme
  /** Host and port that the client requested. */
  8: required string host
  /** Prefix of the site without a trailing slash, for building links: `/shop`; empty for the root. */
  9: required string prefix
}

struct Response {
  /** 200 to 599. */
  1: required i32 status = 200
  /** Content-Length, Transfer-Encoding and Connection are dropped, because the faceplate sets them. */
  2: required list<Header> headers = []
  3: required binary body = ""
}

service WebApplication {
  /** Answers one HTTP request. Not idempotent: a request that may have run is not retried. */
  Response handle_request(1: Request request)
}
