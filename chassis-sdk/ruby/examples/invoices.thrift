/**
 * Invoices computes due dates. It includes the interface of another chassis and calls it.
 */
include "calendar.thrift"

namespace rb office

struct Invoice {
  1: string number
  /** Date of the invoice, such as 2026-03-31. */
  2: string written
  /** Number of workdays until the invoice is due. */
  3: i32 terms = 10
}

service Invoices {
  /** Returns the day on which an invoice is due. Calls Calendar. */
  calendar.Day due(1: Invoice invoice) throws (1: calendar.NoSuchDay none) (katamari.readonly = "true")

  /** Records a payment. Oneway: the caller does not wait. */
  oneway void paid(1: string number)
}
