# frozen_string_literal: true

# What goes through a handler and back: values, exceptions, limits.

require_relative 'helper'

class ValuesTest < SharedProbeTest
  EVERYTHING = {
    flag: true, tiny: -128, small: -32_768, normal: -2**31, big: -2**63, real: 1.5, text: 'Grüße 🌍', bytes: "\x00\xff\xfe".b, level: 5,
    texts: ['', 'ß'], blobs: ["\xff".b, ''.b], numbers: Set[1, -1], keyed: { 'é' => "\x80".b }, absent: nil, preset: 7
  }.freeze

  def test_every_value_comes_back_with_its_encoding
    tree = Probe::Tree.new(value: 1, children: [Probe::Tree.new(value: 2, children: [])])
    [Probe::Choice.new(:bytes, "\xff\x00".b), Probe::Choice.new(:numbers, [1, -2]), nil].each do |choice|
      given = Probe::Everything.new(EVERYTHING.merge(tree: tree, choice: choice))
      found = ask(@peer, 'echo', value: given)
      assert_equal given, found
      assert_equal [Encoding::UTF_8, Encoding::BINARY, Encoding::BINARY], [found.text, found.bytes, found.keyed['é']].map(&:encoding)
    end
  end

  def test_declared_exceptions_are_answers
    found = @peer.result(result_class('declared'), 'declared', args('declared', why: 'because')).refused
    assert_equal ['because', 5], [found.why, found.level]
  end

  def test_undeclared_ones_are_told_by_their_message_alone_and_the_process_stays_up
    {
      'message' => 'it is broken', 'empty' => 'ArgumentError', 'bytes' => "bytes \ufffd", 'stack' => 'stack level too deep',
      'script' => 'not yet', 'mesh' => 'nobody there', 'foreign' => 'read elsewhere'
    }.each do |kind, message|
      failed = @peer.failure('undeclared', args('undeclared', kind: kind))
      assert_equal [6, "Probe.undeclared failed: #{message}"], [failed.type, failed.message]
      assert_nil @peer.call('undeclared', args('undeclared', kind: kind)).context
    end
    failed = @peer.failure('undeclared', args('undeclared', kind: 'name')).message
    assert_match(/\AProbe.undeclared failed: undefined local variable or method `undeclared_name' for .*\z/, failed)
  end

  def test_results_that_do_not_fit_fail_and_say_why
    {
      'nil' => 'it returned nil, but the IDL declares a result', 'number' => 'undefined method `encoding\' for 7:Integer', 'bytes' => '"\xFF" from ASCII-8BIT to UTF-8',
      'broken' => '"\xFF" is not valid UTF-8; declare the type binary in the IDL to send bytes'
    }.each { |kind, message| assert_equal "Probe.wrong failed: #{message}", @peer.failure('wrong', args('wrong', kind: kind)).message }
    assert_equal 'é', ask(@peer, 'wrong', kind: 'latin')
    assert_equal [-32_768, 32_767], [-32_768, 32_767].map { |number| ask(@peer, 'small', number: number) }
    assert_equal 'Probe.small failed: 32768 does not fit an i16', @peer.failure('small', args('small', number: 32_768)).message
  end

  def test_arguments_that_cannot_be_read_are_refused_as_such
    level = "\x0c\0\1\x08\0\x09\0\0\0\x63\0\0".b
    answer = @peer.call('echo', level)
    assert_equal [3, 9], [answer.type, answer.read_context(Katamari::Contract::ReplyContext).errorCode]
    failed = @peer.failure('echo', level)
    assert_equal [7, 'The arguments of Probe.echo do not match its interface: Invalid value of field level!'], [failed.type, failed.message]
  end

  def test_nesting_ends_at_64
    # The result struct is a level, and a tree of n levels has 2 n - 1: a struct for each, and a list between two.
    assert_equal 30, ask(@peer, 'deep', levels: 31).value
    assert_equal 31, ask(@peer, 'deep', levels: 32).value
    assert_equal 'Probe.deep failed: nested deeper than 64', @peer.failure('deep', args('deep', levels: 33)).message
  end

  def test_answers_that_do_not_fit_a_frame_fail_and_the_connection_goes_on
    assert_equal 10_000_000, ask(@peer, 'large', bytes: 10_000_000).bytesize
    failed = @peer.failure('large', args('large', bytes: 17 * 1024 * 1024)).message
    assert_match(/\AProbe.large failed: its result has 17825\d+ bytes, limit is 16777199; return less at once\z/, failed)
  end
end
