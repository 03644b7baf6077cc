# frozen_string_literal: true

# Parts of the kit for themselves: bytes, interfaces, calls into the mesh.

require_relative 'helper'

class WireTest < Minitest::Test
  Wire = Katamari::Wire

  def test_addresses
    assert_equal [:unix, '/tmp/a b'], Wire.parse_address('unix:/tmp/a b')
    assert_equal [:tcp, '127.0.0.1', 0], Wire.parse_address('tcp:127.0.0.1:0')
    assert_equal [:tcp, '::1', 9], Wire.parse_address('tcp:[::1]:9')
    ['', 'tcp:a', 'tcp:a:99999', 'http://a:1'].each { |bad| assert_raises(ArgumentError) { Wire.parse_address(bad) } }
  end

  def test_a_message_is_read_as_it_was_written
    context = Katamari::Contract::CallContext.new(timeLeftUs: 2**40, caller: 'ü')
    frame = Wire.frame(1, 'Füße@1.0:gehen', -7, "\x02\0\1\1\0".b, context)
    message = Wire::Message.parse(frame.byteslice(4, frame.bytesize))
    assert_equal [1, -7, %w[Füße 1.0 gehen], "\x02\0\1\1\0".b], [message.type, message.sequence_id, message.target, message.body]
    assert_equal context, message.read_context(Katamari::Contract::CallContext)
  end

  def test_a_context_names_the_caller_or_an_anonymous_one
    sent = Katamari::Contract::CallContext.new(identityName: 'billing', identityRoles: %w[finance eu], identityHow: 'mtls')
    frame = Wire.frame(1, 'pay', 1, "\0".b, sent)
    found = Wire::Message.parse(frame.byteslice(4, frame.bytesize)).read_context(Katamari::Contract::CallContext)
    assert_equal ['billing', %w[finance eu], 'mtls'], Katamari::Context.new('pay', found, Wire.now).identity.to_a
    assert_equal ['anonymous', [], 'anonymous'], Katamari::Context.outside.identity.to_a
  end

  def test_every_beginning_of_a_message_is_refused
    frame = Wire.frame(1, 'a', 1, Katamari::Output.encode(Probe::Everything.new(text: 'x', texts: ['y'], keyed: { 'k' => 'v' })))
    whole = frame.byteslice(4, frame.bytesize)
    whole.bytesize.times { |bytes| assert_raises(Wire::Malformed) { Wire::Message.parse(whole.byteslice(0, bytes)) } }
    assert_equal 'a', Wire::Message.parse(whole).name
  end

  def test_a_frame_that_drips_is_read_whole
    here, there = UNIXSocket.pair
    reading = Thread.new { Wire::FrameSocket.new(here).then { |socket| [socket.read, socket.read, socket.read] } }
    "\0\0\0\3abc\0\0\0\0".each_char { |byte| there.write(byte) }
    there.close
    assert_equal ['abc', '', nil], reading.value
  end

  def test_what_was_given_as_binary_keeps_its_encoding
    text = +'ü'
    Katamari::Output.encode(Probe::Everything.new(bytes: text))
    assert_equal Encoding::UTF_8, text.encoding
  end
end

class IdlTextTest < Minitest::Test
  def test_includes_are_found_beside_the_file_and_beside_the_main_one
    text = read('main.thrift' => "include 'a/b.thrift' // include \"c.thrift\"\nservice S {}", 'a/b.thrift' => 'include "d.thrift"include "e.thrift"',
                'a/d.thrift' => "# include 'x'\n/* include 'y' */ const string A = \"include 'z'\"", 'e.thrift' => '')
    assert_equal ['main.thrift', %w[main.thrift a/b.thrift a/d.thrift e.thrift]], [text.main, text.files.keys]
  end

  def test_includes_are_found_in_folders_after_that_of_the_including_file
    files = { 'main.thrift' => "include 'deep/a.thrift'\nservice S {}", 'b.thrift' => 'wrong', 'one/deep/a.thrift' => 'include "b.thrift" include "../a.thrift"',
              'one/a.thrift' => '', 'two/b.thrift' => 'include "c.thrift" include "../outside.thrift"', 'one/c.thrift' => '', 'two/c.thrift' => '', 'outside.thrift' => '' }
    names = %w[main.thrift -I1/deep/a.thrift -I2/b.thrift -I2/c.thrift -I2/../outside.thrift -I1/a.thrift]
    assert_equal names, read(files, %w[one two]).files.keys
    error = assert_raises(ArgumentError) { read(files, %w[none]) }
    assert_match(/\AThe include folder ".*none" does not exist, or is not a folder\z/, error.message)
  end

  def test_what_is_missing_is_named
    error = assert_raises(ArgumentError) { read('main.thrift' => 'include "no.thrift" service S {}') }
    assert_match(/\Amain.thrift includes "no.thrift", which was not found; looked for no.thrift in /, error.message)
    error = assert_raises(ArgumentError) { read('main.thrift' => 'service A {} /* service S */ service B extends A {}') }
    assert_equal 'main.thrift has no service "S"; it has A, B', error.message
  end

  private

  def read(files, includes = [])
    Dir.mktmpdir do |folder|
      files.each do |name, text|
        path = File.join(folder, name)
        FileUtils.mkdir_p(File.dirname(path))
        File.write(path, text)
      end
      Katamari::IdlText.read(File.join(folder, 'main.thrift'), 'S', includes.map { |name| File.join(folder, name) })
    end
  end
end

# Against a mesh that the test itself plays.
class MeshClientTest < Minitest::Test
  Wire = Katamari::Wire

  def setup
    @folder = Dir.mktmpdir
    @listener = UNIXServer.new("#{@folder}/mesh")
    Katamari.instance_variable_set(:@mesh, Katamari::MeshClient.new("unix:#{@folder}/mesh", 'chassis Test@1/1'))
    @accepted = 0
  end

  def teardown
    @listener.close
    @mesh&.kill
    FileUtils.remove_entry(@folder)
    Katamari.instance_variable_set(:@mesh, nil)
  end

  def test_a_call_carries_deadline_trace_and_name
    answers { |socket, message| [@seen = message, socket.write(answer_to(message, "\x08\0\0\0\0\0\x2a\0".b))] }
    sent = Katamari::Contract::CallContext.new(timeLeftUs: 1, traceparent: '00-t', tracestate: 's=1')
    context = Katamari::Context.new('here', sent, Wire.now + 2)
    assert_equal 42, context.client(Probe::Probe::Client, version: '>=1').pid
    told = @seen.read_context(Katamari::Contract::CallContext)
    assert_equal ['Probe', '>=1', '00-t', 's=1', 'chassis Test@1/1'], [told.serviceName, told.version, told.traceparent, told.tracestate, told.caller]
    assert_includes 1..2_000_000, told.timeLeftUs
    assert_equal ['pid', 1], [@seen.name, @seen.type]
    assert_operator context.client(Probe::Probe::Client, timeout: 0.5).then { |client| [client.pid, @seen][1] }
                           .read_context(Katamari::Contract::CallContext).timeLeftUs, :<=, 500_000
    assert_equal 1, @accepted
  end

  def test_what_the_mesh_says_against_it_is_an_error_with_its_code
    says = Katamari::Contract::ReplyContext.new(errorCode: 2, notRun: true, retryAfterMs: 250, stage: 1)
    answers { |socket, message| socket.write(Wire.frame(3, 'pid', message.sequence_id, Wire.application_exception(6, 'full'), says)) }
    error = assert_raises(Katamari::Error) { client.pid }
    assert_equal [:overloaded, 'full', true, 0.25, :queue, 6], [error.code, error.message, error.not_run?, error.retry_after, error.stage, error.type]
    assert_kind_of Thrift::ApplicationException, error
  end

  def test_what_another_chassis_fails_with_is_the_librarys_exception
    answers { |socket, message| socket.write(Wire.frame(3, 'pid', message.sequence_id, Wire.application_exception(6, 'Probe.pid failed: x'))) }
    error = assert_raises(Thrift::ApplicationException) { client.pid }
    assert_equal [Thrift::ApplicationException, 'Probe.pid failed: x'], [error.class, error.message]
  end

  def test_declared_exceptions_come_as_their_class
    body = Katamari::Output.encode(Probe::Probe::Declared_result.new(refused: Probe::Refused.new(why: 'no', level: 1)))
    answers { |socket, message| socket.write(answer_to(message, body)) }
    assert_equal 'no', assert_raises(Probe::Refused) { client.declared('x') }.why
  end

  def test_a_connection_that_ended_meanwhile_is_not_used_again
    answers do |socket, message|
      socket.write(answer_to(message, "\x08\0\0\0\0\0\1\0".b))
      socket.write(Wire.frame(4, 'katamari.Link:drain', 0, Wire::EMPTY_STRUCT)) if @accepted == 1
    end
    assert_equal [1, 1], [client.pid, wait_for('the notice') { client.pid }]
    wait_for('another connection') { [client.pid, @accepted > 1].last }
    assert_equal 2, @accepted
  end

  def test_a_call_that_is_not_answered_ends_with_its_time_and_takes_its_connection_along
    closed = Queue.new
    answers { |socket, _| closed << socket.read }
    error = assert_raises(Katamari::Error) { client(timeout: 0.1).pid }
    assert_equal [:timeout, 'Probe.pid got no reply before its deadline'], [error.code, error.message]
    assert_nil closed.pop
  end

  def test_a_call_tells_the_facts_about_its_reply_and_asks_for_coverage
    seen = []
    facts = { version: '2.1.0', shards: 40, completeShards: 39, missingShards: ['wiki@2.1.0/p-7 TIMED_OUT'] }
    answers do |socket, message|
      context = message.read_context(Katamari::Contract::CallContext)
      seen << [context.serviceName, context.minCoverage]
      reply = Katamari::Contract::ReplyContext.new(**(seen.size > 1 ? { errorCode: 13 } : facts))
      body = seen.size > 1 ? Wire.application_exception(6, 'boom') : "\x08\0\0\0\0\0\1\0".b
      socket.write(Wire.frame(seen.size > 1 ? 3 : 2, message.name, message.sequence_id, body, reply))
    end
    infos = []
    wiki = client(service: 'wiki', min_coverage: 0.5, on_reply: ->(info) { infos << info })
    assert_equal 1, wiki.pid
    assert_equal :incomplete, assert_raises(Katamari::Error) { wiki.pid }.code
    missing = [Katamari::AbsentShard.new('wiki@2.1.0/p-7', 'TIMED_OUT')]
    assert_equal [Katamari::ReplyInfo.new('2.1.0', Katamari::Coverage.new(40, 39, missing))], infos
    assert_raises(Katamari::Error) { client.pid }
    assert_equal [['wiki', 0.5], ['wiki', 0.5], ['Probe', nil]], seen
    assert_raises(ArgumentError) { client(min_coverage: 2) }
  end

  def test_a_call_tells_of_a_plain_reply_and_raises_what_its_callback_raises
    answers { |socket, message| socket.write(answer_to(message, "\x08\0\0\0\0\0\1\0".b)) }
    infos = []
    other = client(on_reply: ->(info) { (infos << info).size > 1 or raise IndexError, 'too little' })
    assert_raises(IndexError) { other.pid }
    assert_equal [1, Katamari::ReplyInfo.new('', nil)], [other.pid, infos.last]
  end

  def test_a_call_that_the_mesh_hangs_up_on_has_failed
    answers { |socket, _| socket.close }
    error = assert_raises(Katamari::Error) { client.pid }
    assert_equal [:resource_failed, false], [error.code, error.not_run?]
  end

  def test_a_oneway_call_is_over_when_it_was_sent
    seen = Queue.new
    answers { |_, message| seen << message }
    client.note('f', 't')
    assert_equal 4, seen.pop.type
  end

  def test_what_cannot_be_sent_is_not_sent
    refused = [
      -> { client.note('f', "\xff") }, -> { client.note('f', 'x' * (17 << 20)) }, -> { client.small('x') },
      -> { Katamari::Context.new('', Katamari::Contract::CallContext.new, Wire.now).client(Probe::Probe::Client).pid }
    ].map { |call| assert_raises(StandardError, &call) }
    assert_equal [EncodingError, Katamari::Error, TypeError, Katamari::Error], refused.map(&:class)
    assert_equal [:too_large, :timeout], refused.grep(Katamari::Error).map(&:code)
    assert_equal 0, @accepted
    answers { |socket, message| socket.write(answer_to(message, "\x08\0\0\0\0\0\1\0".b)) }
    assert_equal 1, client.pid
  end

  def test_without_a_mesh_a_call_says_so
    Katamari.instance_variable_set(:@mesh, Katamari::MeshClient.new('', ''))
    error = assert_raises(Katamari::Error) { client.pid }
    assert_equal [:no_pool, 'Cannot call Probe.pid: KATAMARI_MESH is not set: only a chassis that a mesh has started can call other services'],
                 [error.code, error.message]
    Katamari.instance_variable_set(:@mesh, Katamari::MeshClient.new("unix:#{@folder}/nobody", ''))
    error = assert_raises(Katamari::Error) { client.pid }
    assert_equal [:resource_failed, true], [error.code, error.not_run?]
  end

  def test_outside_of_calls_there_is_a_context_all_the_same
    context = Katamari.context
    assert_equal [Float::INFINITY, false, '', {}, 0], [context.time_left, context.abandoned?, context.caller, context.headers, context.attempt]
  end

  private

  def client(**options)
    Katamari.context.client(Probe::Probe::Client, **options)
  end

  def answer_to(message, body)
    Wire.frame(2, message.name, message.sequence_id, body)
  end

  # Plays the mesh: one connection after the other, each message of it to the block.
  def answers
    @mesh = Thread.new do
      Thread.current.report_on_exception = false
      loop do
        socket = Wire::FrameSocket.new(@listener.accept)
        @accepted += 1
        Thread.new do
          while (frame = socket.read)
            yield socket, Wire::Message.parse(frame)
          end
        rescue IOError, SystemCallError
          nil
        end
      end
    end
  end
end
