/** The guest book: a web application as a chassis. It has only the interface of all web applications. */
include "../../idl/web.thrift"

namespace * guestbook

service GuestBook extends web.WebApplication {}
