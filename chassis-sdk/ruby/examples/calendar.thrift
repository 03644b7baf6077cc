/**
 * Calendar computes workdays. It is an example of the Ruby kit; the other example, Invoices, calls it.
 */
namespace rb office

/** The given text is not a day. */
exception NoSuchDay {
  /** The text as it was given. */
  1: string given
  /** What is wrong with the text. */
  2: string why
}

struct Day {
  /** ISO date, such as 2026-03-31. */
  1: string date
  /** In English. */
  2: string weekday
  /** Week of the ISO calendar, 1 to 53. */
  3: i32 week
  /** Whether the day is Monday to Friday. Holidays are not considered. */
  4: bool isWorkday
}

service Calendar {
  /** Returns the facts about a day. */
  Day day(1: string date) throws (1: NoSuchDay none) (katamari.readonly = "true")

  /** Returns the day that is `workdays` workdays after `date`. */
  Day workdaysAfter(1: string date, 2: i32 workdays) throws (1: NoSuchDay none) (katamari.readonly = "true")
}
