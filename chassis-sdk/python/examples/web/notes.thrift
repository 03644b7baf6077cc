/**
 * Notes: a web application of Python. All of its interface is that of any web application.
 */
include "../../../../idl/web.thrift"

namespace py notes

service Notes extends web.WebApplication {}
