/**
 * The guest book: a web application as a chassis. All of its interface is that of any web application.
 */
include "../../idl/web.thrift"

namespace * guestbook

service GuestBook extends web.WebApplication {}
