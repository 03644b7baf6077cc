/**
 * Calendar: days as an office counts them. The example of the Ruby kit that is called by the other one, Invoices.
 */
namespace rb office

/** What was given as a day is none. */
exception NoSuchDay {
  /** As it was given. */
  1: string given
  /** What is wrong with it, for people. */
  2: string why
}

struct Day {
  /** As in 2026-03-31. */
  1: string date
  /** In English. */
  2: string weekday
  /** Of the ISO calendar, 1 to 53. */
  3: i32 week
  /** Monday to Friday; holidays are nobody's business here. */
  4: bool isWorkday
}

service Calendar {
  /** What there is to say about a day. */
  Day day(1: string date) throws (1: NoSuchDay none) (katamari.readonly = "true")

  /** The day that comes so many workdays after another. */
  Day workdaysAfter(1: string date, 2: i32 workdays) throws (1: NoSuchDay none) (katamari.readonly = "true")
}
