# frozen_string_literal: true

# The shards of a content server: what opens, closes and uses them, by turns and at once.

require_relative 'helper'

class ContentTest < Minitest::Test
  def setup
    @told = []
    @may_open = Queue.new
    @may_close = Queue.new
    @errors = []
    @slow = false
    @content = Katamari::Content.new(close: method(:close)) do |path, name|
      @told << "open #{name}"
      @may_open.pop if @slow
      raise @errors.shift unless @errors.empty?

      Katamari::OpenedShard.new("opened #{path}", entries: 3, more: { version: 8 })
    end
  end

  def close(_shard, name)
    @may_close.pop if @slow
    @told << "close #{name}"
  end

  def test_a_shard_is_opened_once_for_all_that_ask_at_the_same_time_and_later
    @slow = true
    threads = Array.new(3) { Thread.new { @content.open_shard('i@1/a', '/a') } }
    wait_for('the first to open it') { !@told.empty? }
    assert_empty @content.names
    @may_open << true
    opened = threads.map(&:value)
    assert_equal [opened[0]] * 4, opened + [@content.open_shard('i@1/a', '/a')]
    assert_equal [['open i@1/a'], ['i@1/a'], 3, { 'version' => '8' }], [@told, @content.names, opened[0].entries, opened[0].more]
  end

  def test_a_shard_that_is_open_from_another_path_is_refused
    @content.open_shard('i@1/a', '/a')
    error = assert_raises(ArgumentError) { @content.open_shard('i@1/a', '/b') }
    assert_equal 'i@1/a is open from /a; close it first', error.message
  end

  def test_a_shard_that_was_refused_is_not_open_and_can_be_opened
    [Katamari::DamagedShard.new('checksum differs'), Errno::ENOENT.new('/a')].each do |error|
      @errors = [error]
      assert_equal error, assert_raises(error.class) { @content.open_shard('i@1/a', '/a') }
      assert_empty @content.names
      assert_equal 'opened /b', @content.open_shard('i@1/a', '/b').shard
      @content.close_shard('i@1/a')
    end
  end

  def test_what_opening_must_return_is_named
    error = assert_raises(TypeError) { Katamari::Content.new { |path, _| [path] }.open_shard('i@1/a', '/a') }
    assert_equal 'the block of Content.new returned Array, expected Katamari::OpenedShard', error.message
    [-1, '3', 1 << 63].each { |entries| assert_raises(ArgumentError) { Katamari::OpenedShard.new('x', entries: entries) } }
    assert_raises(ArgumentError) { Katamari::Content.new }
  end

  def test_close_waits_for_the_calls_that_use_the_shard_and_lets_no_other_in
    @content.close_shard('i@1/unknown')
    @content.open_shard('i@1/a', '/a')
    closing = nil
    @content.use(['i@1/a']) do
      @content.use do
        closing = Thread.new { @content.close_shard('i@1/a') }
        wait_for('the close') { @content.names.empty? }
        error = assert_raises(Katamari::Error) { @content.use(['i@1/a']) { flunk } }
        assert_equal [:no_pool, 'Shard i@1/a is not open here; open are none'], [error.code, error.message]
      end
      assert_equal ['open i@1/a'], @told
    end
    closing.value
    assert_equal ['open i@1/a', 'close i@1/a'], @told
  end

  def test_open_waits_for_a_close
    @content.open_shard('i@1/a', '/a')
    @slow = true
    closing = Thread.new { @content.close_shard('i@1/a') }
    wait_for('the close') { @content.names.empty? }
    opening = Thread.new { @content.open_shard('i@1/a', '/b') }
    @may_close << true
    @may_open << true
    assert_equal [nil, 'opened /b'], [closing.value && nil, opening.value.shard]
    assert_equal ['open i@1/a', 'close i@1/a', 'open i@1/a'], @told
  end

  def test_a_close_that_fails_says_so_and_the_shard_can_be_opened_again
    content = Katamari::Content.new(close: ->(_, _) { raise 'the file is locked' }) { |path, _| Katamari::OpenedShard.new(path, entries: 1) }
    content.open_shard('i@1/a', '/a')
    assert_equal 'the file is locked', assert_raises(RuntimeError) { content.close_shard('i@1/a') }.message
    assert_equal '/b', content.open_shard('i@1/a', '/b').shard
  end

  def test_a_call_uses_the_shards_that_it_names_or_all
    @content.open_shard('i@1/b', '/y')
    @content.open_shard('i@1/a', '/x')
    all = { 'i@1/a' => 'opened /x', 'i@1/b' => 'opened /y' }
    assert_equal([all.to_a, all.to_a], [nil, []].map { |names| @content.use(names, &:to_a) })
    assert_equal({ 'i@1/b' => 'opened /y' }, @content.use(%w[i@1/b i@1/b], &:itself))
    assert_raises(ZeroDivisionError) { @content.use { 1 / 0 } }
    (10..34).each { |number| @content.open_shard("i@1/#{number}", '/x') }
    error = assert_raises(Katamari::Error) { @content.use(%w[i@1/a i@1/x]) { flunk } }
    assert_match(%r{\AShard i@1/x is not open here; open are i@1/10, .*, i@1/29 and 7 more\z}, error.message)
    @content.names.each { |name| @content.close_shard(name) }
    assert_empty @content.names
  end
end

class TurnsByShardTest < Minitest::Test
  def test_tasks_of_a_shard_run_in_order_and_others_meanwhile
    turns = Katamari::TurnsByShard.new(2, 150)
    gate = Queue.new
    ran = Queue.new
    assert turns.add('a') { gate.pop }
    100.times { |number| assert turns.add('a') { ran << number } }
    10.times do |number|
      other = Queue.new
      assert turns.add("b#{number}") { other << number }
      assert_equal number, Timeout.timeout(15) { other.pop }
    end
    assert_empty ran
    gate << true
    assert_equal (0...100).to_a, (Array.new(100) { Timeout.timeout(15) { ran.pop } })
  end

  def test_tasks_beyond_the_limit_are_refused
    turns = Katamari::TurnsByShard.new(1, 2)
    gate = Queue.new
    begun = Queue.new
    assert(turns.add('a') { [begun << true, gate.pop] })
    begun.pop
    assert_equal([true, true, false, false], %w[a b b c].map { |shard| turns.add(shard) {} })
    gate << true
  end
end
