/** A web application for the tests, which does as it is told. */
include "../../../idl/web.thrift"

service Shop extends web.WebApplication {}
service Blog extends web.WebApplication {}
