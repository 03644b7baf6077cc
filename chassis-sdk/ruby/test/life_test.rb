# frozen_string_literal: true

# The life of a chassis: what it is started with, and all the ways in which it ends.

require_relative 'helper'

class LifeTest < ProbeTest
  def test_the_limits_are_those_of_the_mesh
    start({}, { 'KATAMARI_FRAME_BYTES_MAX' => '17500000', 'KATAMARI_NESTING_MAX' => '200' })
    peer = connect
    assert_equal 17_400_000, ask(peer, 'large', bytes: 17_400_000).bytesize
    assert_match(/large failed: its result has .* limit is 17499983; return less/, peer.failure('large', args('large', bytes: 17_499_990)).message)
    # An unknown field, which is skipped.
    deep = "\x0c\0\x63".b + "\x0f\0\1\x0c\0\0\0\1".b * 98 + "\0".b * 100
    assert_equal "\0".b, peer.call('nothing', deep).body
  end

  def test_limits_that_make_no_sense_are_refused
    process = launch({}, { 'KATAMARI_NESTING_MAX' => 'deep' })
    assert_equal 1, status_of(process).exitstatus
    assert_match(/KATAMARI_NESTING_MAX is "deep", expected a whole number above 0/, output)
  end

  def test_describes_itself_with_the_text_of_its_interface
    start(tags: ['fast'], roles: ['test'], more: { region: 'north' }, concurrency: 3)
    details = connect.result(Katamari::Contract::DescribeResult, 'katamari.Chassis:describe', context: nil).success
    assert_equal ['Probe', '1.0.0', ['fast'], ['test'], { 'region' => 'north' }, 3],
                 [details.serviceName, details.version, details.tags, details.roles, details.more, details.concurrency]
    assert_equal ['probe.thrift', %w[probe.thrift values.thrift]], [details.idlMain, details.idlFiles.keys.sort]
    assert_equal File.read(File.join(__dir__, 'values.thrift')), details.idlFiles['values.thrift']
    assert_match(/\Aruby #{RUBY_VERSION}/, details.sdk)
  end

  def test_works_on_as_many_calls_at_once_as_it_was_told
    start(concurrency: 3)
    peer = connect
    [5, 6, 7].each { |id| peer.send('meet', args('meet', calls: 3), id: id) }
    assert_equal [5, 6, 7], Array.new(3) { peer.receive.sequence_id }.sort
    assert_equal 'false', ask(peer, 'context')['thread']
  end

  def test_logs_what_a_handler_raised_with_its_stack_and_the_name_of_the_copy
    process = start
    peer = connect
    %w[message bytes].each { |kind| peer.failure('undeclared', args('undeclared', kind: kind)) }
    Process.kill('TERM', process.pid)
    status_of(process)
    logged = output
    assert_match(%r{ERROR -- Probe@1.0.0/7: Probe.undeclared raised an exception that its IDL does not declare: .*it is broken \(RuntimeError\)\n\tfrom },
                 logged)
    assert_includes logged, "bytes \ufffd (RuntimeError)"
  end

  def test_logs_an_error_of_the_mesh_in_one_line_without_its_stack
    process = start
    peer = connect
    peer.failure('undeclared', args('undeclared', kind: 'mesh'))
    Process.kill('TERM', process.pid)
    status_of(process)
    logged = output
    assert_match(%r{WARN -- Probe@1.0.0/7: Probe.undeclared failed: no_pool: nobody there$}, logged)
    refute_match(/ERROR|\tfrom /, logged)
  end

  def test_retires_after_its_reply_when_the_handler_says_so
    process = start
    peer = connect
    answer = peer.call('retire', id: 3)
    assert_equal [3, true], [answer.sequence_id, answer.read_context(Katamari::Contract::ReplyContext).retire]
    assert_equal ['katamari.Link:drain', 4, 0], peer.receive.then { |notice| [notice.name, notice.type, notice.sequence_id] }
    peer.close
    assert_equal 0, status_of(process).exitstatus
  end

  def test_drains_when_it_is_told_to
    drains { |peer, _| assert_equal 90, peer.call('katamari.Chassis:drain', id: 90).sequence_id }
  end

  def test_drains_at_sigterm
    drains { |_, process| Process.kill('TERM', process.pid) }
  end

  def test_ends_at_the_second_sigterm
    process = start
    peer = connect
    peer.send('hold', args('hold', name: file('a')), id: 1)
    wait_for('the handler') { File.exist?(file('a.in')) }
    Process.kill('TERM', process.pid)
    assert_equal 'katamari.Link:drain', peer.receive.name
    Process.kill('TERM', process.pid)
    assert_equal 1, status_of(process).exitstatus
  end

  def test_ends_with_its_manager
    process = start({}, 'KATAMARI_LIFELINE' => 'stdin')
    assert_equal '', ask(connect, 'context')['stdin']
    connect.send('hold', args('hold', name: file('a')))
    wait_for('the handler') { File.exist?(file('a.in')) }
    @stdin.close
    @stdin = nil
    assert_equal 0, status_of(process).exitstatus
  end

  def test_ends_when_the_handler_exits
    [1, 4].each do |concurrency|
      process = start(concurrency: concurrency)
      peer = connect
      assert_nil peer.call('leave', args('leave', code: 40 + concurrency))
      assert_equal 40 + concurrency, status_of(process).exitstatus
      File.unlink(file('socket'))
    end
  end

  def test_says_at_its_start_what_is_wrong
    {
      { service: 'Prob' } => 'probe.thrift has no service "Prob"; it has Probe',
      { idl: 'nowhere.thrift' } => 'Cannot read the IDL file "nowhere.thrift": there is no such file',
      { concurrency: 0 } => 'concurrency is 0; expected a whole number above 0'
    }.each do |options, message|
      process = launch(options)
      assert_equal 1, status_of(process).exitstatus
      assert_includes output, message
    end
    process = launch({}, 'KATAMARI_LISTEN' => 'somewhere')
    assert_equal 1, status_of(process).exitstatus
    assert_includes output, '"somewhere" is not an address; expected unix:PATH or tcp:HOST:PORT'
    error = assert_raises(ArgumentError) { Katamari::Service.new(Probe::Probe::Processor, Object.new, 'Probe', '1.0.0') }
    assert_includes error.message, 'Object has no method abandoned, badNote, context,'
  end

  def test_listens_on_a_port_of_its_own_when_nobody_says_where
    # The port is the same for everybody, so somebody else may have it for a while.
    said = wait_for('the port', 60) do
      process = launch({}, 'KATAMARI_LISTEN' => nil, 'KATAMARI_RESOURCE' => nil)
      wait_for('a word') { output[/^Probe@.*\n/] || !process.alive? }
      output[/^Probe@.*\n/]
    end
    assert_equal "Probe@1.0.0 listens on tcp:127.0.0.1:9095 (framed Thrift)\n", said
    socket = Thrift::Socket.new('127.0.0.1', 9095)
    socket.open
    client = Probe::Probe::Client.new(Thrift::BinaryProtocol.new(Thrift::FramedTransport.new(socket)))
    assert_equal @processes.last.pid, client.pid
    socket.close
  end

  private

  # Told to drain in the middle of a call: it says so, refuses what comes, answers what it has, leaves with status 0
  # and without its socket.
  def drains
    process = start
    peer = connect
    peer.send('hold', args('hold', name: file('a')), id: 1)
    wait_for('the handler') { File.exist?(file('a.in')) }
    yield peer, process
    assert_equal 'katamari.Link:drain', peer.receive.name
    refused = peer.call('nothing', id: 2)
    refusal = refused.read_context(Katamari::Contract::ReplyContext)
    assert_equal [2, 5, true], [refused.sequence_id, refusal.errorCode, refusal.notRun]
    File.write(file('a.out'), '')
    assert_equal [1, 2], peer.receive.then { |answer| [answer.sequence_id, answer.type] }
    peer.close
    assert_equal 0, status_of(process).exitstatus
    refute File.exist?(file('socket'))
  end
end
