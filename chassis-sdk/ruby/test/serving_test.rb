# frozen_string_literal: true

# How a chassis serves, as its resource manager meets it: over a connection.

require_relative 'helper'

class ServingTest < SharedProbeTest
  def test_answers_pings_of_both_kinds_and_refuses_what_the_control_service_lacks
    peer = @peer
    assert_equal [2, 'ping', 41, "\0".b], peer.call('katamari.Chassis:ping', id: 41).to_a.values_at(0, 1, 2, 4)
    assert_equal [2, 'ping', -5, "\0".b], peer.call('katamari.Link:ping', id: -5, context: nil).to_a.values_at(0, 1, 2, 4)
    assert_equal 1, peer.failure('katamari.Chassis:dance').type
    assert_equal 1, peer.failure('katamari.Link:dance').type
  end

  def test_answers_pings_while_its_handler_works
    peer = @peer
    peer.send('hold', args('hold', name: file('a')), id: 1)
    wait_for('the handler') { File.exist?(file('a.in')) }
    assert_equal 2, peer.call('katamari.Chassis:ping', id: 2).sequence_id
    File.write(file('a.out'), '')
    assert_equal 1, peer.receive.sequence_id
  end

  def test_works_on_one_call_after_the_other_in_the_main_thread_by_default
    peer = @peer
    peer.send('hold', args('hold', name: file('a')), id: 1)
    peer.send('context', id: 2)
    wait_for('the handler') { File.exist?(file('a.in')) }
    assert_equal 3, peer.call('katamari.Chassis:ping', id: 3).sequence_id
    File.write(file('a.out'), '')
    assert_equal [1, 2], Array.new(2) { peer.receive.sequence_id }
    assert_equal 'true', ask(peer, 'context')['thread']
  end

  def test_reads_the_context_that_stands_first_and_hands_it_to_the_handler
    said = {
      timeLeftUs: 5_000_000, key: 'k', traceparent: '00-trace', tracestate: 'a=b', caller: 'test é', attempt: 2, headers: { 'x-colour' => 'blue' }
    }
    found = @peer.result(result_class('context'), 'context', context: said).success
    assert_equal({ 'method_name' => 'context', 'caller' => 'test é', 'traceparent' => '00-trace', 'tracestate' => 'a=b', 'key' => 'k',
                   'attempt' => '2', 'header x-colour' => 'blue' }, found.reject { |name, _| %w[time_left thread stdin].include?(name) })
    assert_includes 0.1..5, found['time_left'].to_f
  end

  def test_serves_a_plain_client_of_the_library_without_a_mesh
    socket = Thrift::UNIXSocket.new(address.delete_prefix('unix:'))
    protocol = Thrift::BinaryProtocol.new(Thrift::FramedTransport.new(socket))
    socket.open
    client = Probe::Probe::Client.new(protocol)
    assert_equal ['', '0'], client.context.values_at('key', 'attempt')
    assert_equal 'because', assert_raises(Probe::Refused) { client.declared('because') }.why
    client.note(file('notes'), 'plain')
    client = Probe::Probe::Client.new(Thrift::MultiplexedProtocol.new(protocol, 'Probe'))
    assert_equal @pid, client.pid
    assert_equal "plain\n", File.read(file('notes'))
    socket.close
  end

  def test_refuses_services_and_methods_that_it_does_not_have
    peer = @peer
    failed = peer.failure('fly')
    assert_equal [1, true], [failed.type, failed.message.start_with?('Probe has no method "fly"; it has abandoned, ')]
    assert_equal 'This is Probe@1.0.0; it does not offer Other', peer.failure('Other:pid').message
    assert_equal @pid, peer.result(result_class('pid'), 'Probe@1.0.0:pid').success
    refusal = peer.call('fly').read_context(Katamari::Contract::ReplyContext)
    assert_equal [1, true], [refusal.errorCode, refusal.notRun]
    assert_nil peer.call('fly', context: nil).context
  end

  def test_a_oneway_call_is_answered_to_the_mesh_and_not_to_a_plain_client
    peer = @peer
    assert_equal "\0".b, peer.call('note', args('note', file: file('notes'), text: 'one'), id: 9).body
    peer.send('note', args('note', file: file('notes'), text: 'two'), type: Thrift::MessageTypes::ONEWAY, context: nil)
    assert_equal 11, peer.call('nothing', id: 11).sequence_id
    assert_equal "one\ntwo\n", File.read(file('notes'))
    assert_equal 'Probe.badNote failed: no note', peer.failure('badNote').message
  end

  def test_does_not_begin_what_nobody_waits_for
    peer = @peer
    peer.send('hold', args('hold', name: file('a')), id: 1)
    wait_for('the handler') { File.exist?(file('a.in')) }
    peer.send('note', args('note', file: file('notes'), text: 'late'), id: 2, context: { timeLeftUs: 1 })
    peer.send('note', args('note', file: file('notes'), text: 'taken back'), id: 3)
    peer.send('katamari.Link:cancel', Katamari::Contract::CancelArgs.new(sequenceId: 3), type: Thrift::MessageTypes::ONEWAY, context: nil)
    peer.send('nothing', id: 4)
    assert_equal 5, peer.call('katamari.Chassis:ping', id: 5).sequence_id
    File.write(file('a.out'), '')
    answers = Array.new(3) { peer.receive }
    assert_equal [1, 2, 4], answers.map(&:sequence_id)
    late = answers[1].read_context(Katamari::Contract::ReplyContext)
    assert_equal [3, true, 1], [late.errorCode, late.notRun, late.stage]
    refute File.exist?(file('notes'))
  end

  def test_tells_the_handler_when_its_call_is_taken_back_or_its_caller_has_gone
    peer = @peer
    peer.send('abandoned', args('abandoned', name: file('a')), id: 1)
    wait_for('the handler') { File.exist?(file('a.in')) }
    peer.send('katamari.Link:cancel', Katamari::Contract::CancelArgs.new(sequenceId: 1), context: nil)
    wait_for('the word') { File.exist?(file('a.abandoned')) }
    # Of a call that was taken back there is no answer.
    assert_equal 2, peer.call('nothing', id: 2).sequence_id

    peer.send('abandoned', args('abandoned', name: file('b')), id: 3)
    wait_for('the handler') { File.exist?(file('b.in')) }
    peer.close
    wait_for('the word') { File.exist?(file('b.abandoned')) }

    connect.send('abandoned', args('abandoned', name: file('c')), context: { timeLeftUs: 100_000 })
    wait_for('the word') { File.exist?(file('c.abandoned')) }
  end

  def test_refuses_a_call_beyond_the_limits_and_serves_the_others_on_its_connection
    peer = @peer
    peer.send('hold', args('hold', name: file('a')), id: 1)
    peer.send('echo', "x" * (17 * 1024 * 1024), id: 2)
    peer.send('echo', "\x0c\0\1".b * 100_000 + "\0" * 100_001, id: 3)
    refusals = Array.new(2) { peer.receive }
    assert_equal [2, 3], refusals.map(&:sequence_id)
    assert_equal [8, 9], refusals.map { |message| message.read_context(Katamari::Contract::ReplyContext).errorCode }
    assert_match(/Cannot take echo: it has .* bytes, limit is 16777216; send/, Katamari::Wire.message_of(refusals[0].body))
    assert_match(/nested deeper than 64, the limit/, Katamari::Wire.message_of(refusals[1].body))
    File.write(file('a.out'), '')
    assert_equal 1, peer.receive.sequence_id
    assert_equal @pid, ask(peer, 'pid')
  end

  def test_stays_up_whatever_is_sent_to_it
    frame = ->(body) { [body.bytesize].pack('N') + body.b }
    head = [0x80010001, 4].pack('NN') + 'echo' + [1].pack('N')
    list = ->(count) { "\x0f\0\1\x0b".b + [count].pack('N') + "\0" }
    [
      "GET / HTTP/1.1\r\n\r\n", [32 * 1024 * 1024].pack('N') + 'no message of Thrift', [0x7fffffff].pack('N'), [0xffffffff].pack('N'),
      frame.call(''), frame.call('abc'), frame.call([0x80010001, 2**31 - 1].pack('NN') + 'echo'), frame.call(head),
      frame.call(head + list.call(2**31 - 1)), frame.call(head + list.call(2**32 - 1)), frame.call(head + "\x0b\0\1\x7f\xff\xff\xff".b),
      frame.call(head + "\x11\0\1\0"), frame.call(head + "\0\0"),
      # A context with a field of type uuid, which the library is too old for.
      frame.call(head + "\x0c\x7f\xff\x10\0\x63".b + "\0" * 18), frame.call([0x80010002, 4].pack('NN') + 'echo' + [1].pack('N') + "\0")
    ].each do |bytes|
      peer = connect
      peer.write(bytes)
      assert_nil peer.receive, bytes[0, 60].inspect
    end
    assert_equal @pid, ask(connect, 'pid')
  end
end
