/**
 * Notes, a web application in Python. It adds no methods to WebApplication.
 */
include "../../../../idl/web.thrift"

namespace py notes

service Notes extends web.WebApplication {}
