/**
 * Katamari: a web application as a chassis. The web faceplate hands each HTTP request below a site's prefix to
 * `handle_request` of the pool that the site names, and writes the response to the browser. Include this file and
 * extend the service:
 *
 * include "web.thrift"
 * service Shop extends web.WebApplication {}
 */
namespace * katamari_web

/** One header line. A name that comes several times (Set-Cookie) stands several times in the list. */
struct Header {
  1: required string name
  2: required string value
}

struct Request {
  /** GET, HEAD, POST ... in capital letters, as it came. */
  1: required string method
  /** As it came, percent-encoded, the site's prefix included: `/shop/cart%20one`. */
  2: required string path
  /** What follows the question mark, as it came; empty for none. */
  3: required string query
  /** In the order in which they came, without those that are between two hops only. */
  4: required list<Header> headers
  5: required binary body
  /** Address of the client: `10.0.0.7`. */
  6: required string remote_address
  /** `http`, or `https` when a trusted proxy says so. */
  7: required string scheme
  /** Host and port by which the client calls this server. */
  8: required string host
  /** Of the site, without a slash at its end: `/shop`; empty for the root. Links are made with it. */
  9: required string prefix
}

struct Response {
  /** 200 to 599. */
  1: required i32 status = 200
  /** Content-Length, Transfer-Encoding and Connection are the faceplate's own: they are left out. */
  2: required list<Header> headers = []
  3: required binary body = ""
}

service WebApplication {
  /** Not idempotent: a request that may have run is not sent again. */
  Response handle_request(1: Request request)
}
