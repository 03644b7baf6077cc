# frozen_string_literal: true

# Calendar, the example to read first: a class with a method for each method of the interface, and one call that
# serves it. `thrift -r --gen rb invoices.thrift` generated the code in gen-rb.

$LOAD_PATH.unshift(File.join(__dir__, 'gen-rb'))
# Not needed if the gem is installed.
$LOAD_PATH.unshift(File.expand_path('../lib', __dir__))

require 'date'
require 'katamari'
require 'calendar'

class CalendarHandler
  WORKDAYS = (1..5).freeze
  WORKDAYS_MAX = 10_000

  def day(text)
    describe(parse(text))
  end

  def workdaysAfter(text, workdays) # rubocop:disable Naming/MethodName -- the IDL says so
    # The IDL does not declare this exception, so the caller gets an error with its message.
    raise ArgumentError, "#{workdays} workdays, expected 0 to #{WORKDAYS_MAX}" unless (0..WORKDAYS_MAX).cover?(workdays)

    date = parse(text)
    workdays.times { date = next_workday(date) }
    describe(date)
  end

  private

  def parse(text)
    Date.strptime(text, '%Y-%m-%d')
  rescue Date::Error
    # The IDL declares this exception, so it is an ordinary reply.
    raise Office::NoSuchDay.new(given: text, why: 'expected a day of the calendar, such as 2026-03-31')
  end

  def next_workday(date)
    date += 1
    date += 1 until WORKDAYS.cover?(date.wday)
    date
  end

  def describe(date)
    Office::Day.new(date: date.iso8601, weekday: date.strftime('%A'), week: date.cweek, isWorkday: WORKDAYS.cover?(date.wday))
  end
end

Katamari.serve(
  Office::Calendar::Processor, CalendarHandler.new,
  idl: File.join(__dir__, 'calendar.thrift'), service: 'Calendar', version: '1.0.0', tags: ['sample']
)
