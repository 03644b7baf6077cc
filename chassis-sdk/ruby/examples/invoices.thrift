/**
 * Invoices: when they are to be paid. Shows a chassis that includes the interface of another and calls it.
 */
include "calendar.thrift"

namespace rb office

struct Invoice {
  1: string number
  /** The day it was written, as in 2026-03-31. */
  2: string written
  /** Workdays that the customer has. */
  3: i32 terms = 10
}

service Invoices {
  /** The day on which an invoice is due. Asks the Calendar. */
  calendar.Day due(1: Invoice invoice) throws (1: calendar.NoSuchDay none) (katamari.readonly = "true")

  /** The customer has paid. Nobody waits for this one. */
  oneway void paid(1: string number)
}
