# frozen_string_literal: true

# For the tests: the Probe as a process, and a peer that speaks to it in frames as the mesh does.

require 'minitest/autorun'
require 'json'
require 'socket'
require 'tmpdir'
require 'timeout'
require 'katamari'

GENERATED = Dir.mktmpdir('katamari-ruby')
Minitest.after_run { FileUtils.remove_entry(GENERATED) }
system('thrift', '-r', '--gen', 'rb', '-o', GENERATED, File.join(__dir__, 'probe.thrift'), exception: true)
$LOAD_PATH.unshift(File.join(GENERATED, 'gen-rb'))
require 'probe'

# Waits for a fact, with a bound.
def wait_for(what, seconds = 15)
  deadline = Katamari::Wire.now + seconds
  loop do
    seen = yield
    return seen if seen
    raise "waited #{seconds} s for #{what}" if Katamari::Wire.now > deadline

    sleep(0.005)
  end
end

# The other side of a connection to a chassis.
class Peer
  Wire = Katamari::Wire
  Types = Thrift::MessageTypes

  def initialize(address)
    @io = UNIXSocket.new(address.delete_prefix('unix:'))
    @socket = Wire::FrameSocket.new(@io)
  end

  # args - a generated struct of arguments, or bytes. context - a hash of fields of CallContext, nil for none.
  def send(name, args = Wire::EMPTY_STRUCT, id: 1, context: { timeLeftUs: 10_000_000 }, type: Types::CALL)
    body = args.is_a?(String) ? args : Katamari::Output.encode(args)
    @socket.write(Wire.frame(type, name, id, body, context && Katamari::Contract::CallContext.new(**context)))
  end

  def write(bytes)
    @io.write(bytes)
  end

  # The next message, nil at the end of the stream.
  def receive
    frame = @socket.read(Wire.now + 15)
    frame && Wire::Message.parse(frame)
  rescue Errno::ECONNRESET
    nil
  end

  def call(name, args = Wire::EMPTY_STRUCT, **options)
    send(name, args, **options)
    receive
  end

  # The generated result struct of a reply.
  def result(struct_class, name, args = Wire::EMPTY_STRUCT, **options)
    message = call(name, args, **options)
    raise Wire.message_of(message.body) if message.type == Types::EXCEPTION

    Wire.read(struct_class, message.body)
  end

  # What the chassis refused or failed it with.
  def failure(name, args = Wire::EMPTY_STRUCT, **options)
    message = call(name, args, **options)
    raise "#{name} was answered" unless message.type == Types::EXCEPTION

    Wire.read(Thrift::ApplicationException, message.body)
  end

  def close
    @socket.close
  end
end

# A test with a Probe that runs while it does.
class ProbeTest < Minitest::Test
  RUBY = RbConfig.ruby
  LIB = File.expand_path('../lib', __dir__)

  def setup
    @folder = Dir.mktmpdir
    @processes = []
    @peers = []
  end

  def teardown
    @peers.each(&:close)
    @processes.each do |process|
      Process.kill('KILL', process.pid) if process.alive?
    rescue Errno::ESRCH
      nil
    ensure
      process.join
    end
    @stdin&.close
    FileUtils.remove_entry(@folder)
  end

  # Launches a Probe; its process as a thread that waits for it.
  def launch(options = {}, env = {})
    @address = "unix:#{@folder}/socket"
    child_in, @stdin = IO.pipe
    environment = { 'KATAMARI_LISTEN' => @address, 'KATAMARI_RESOURCE' => 'Probe@1.0.0/7', 'PROBE_OPTIONS' => JSON.generate(options) }
    pid = Process.spawn(
      environment.merge(env), RUBY, '-W0', "-I#{LIB}", "-I#{GENERATED}/gen-rb", File.join(__dir__, 'probe.rb'),
      in: child_in, %i[out err] => [file('output'), 'w']
    )
    child_in.close
    @processes << Process.detach(pid)
    @processes.last
  end

  # The same, once it listens.
  def start(options = {}, env = {})
    launch(options, env).tap { |process| wait_for('the socket') { File.socket?("#{@folder}/socket") || !process.alive? } }
  end

  def connect
    wait_for('a connection') do
      Peer.new(@address)
    rescue Errno::ECONNREFUSED, Errno::ENOENT
      nil
    end.tap { |peer| @peers << peer }
  end

  attr_reader :address

  # What the last one that was launched has written to both its streams. To a file: a pipe that nobody reads would
  # stop it.
  def output
    File.read(file('output'), encoding: Encoding::UTF_8)
  end

  def file(name)
    File.join(@folder, name)
  end

  # Structs of the generated code: the arguments of a method, and the class of its result.
  def args(method, **fields)
    generated(method, 'args').new(fields)
  end

  def result_class(method)
    generated(method, 'result')
  end

  def generated(method, what)
    name = "#{method[0].upcase}#{method[1..-1]}_#{what}"
    [Probe::Probe, Probe::Base].find { |service| service.const_defined?(name) }.const_get(name)
  end

  # What a method returns.
  def ask(peer, method, **fields)
    peer.result(result_class(method), method, args(method, **fields)).success
  end

  def status_of(process)
    Timeout.timeout(15) { process.value }
  end
end

# A test of what harms no Probe: all of them have the same one.
class SharedProbeTest < ProbeTest
  def self.host
    @@host ||= ProbeTest.new('a host').tap do |host| # rubocop:disable Style/ClassVars -- one for all subclasses
      host.setup
      Minitest.after_run { host.teardown }
      host.start
    end
  end

  def setup
    super
    @host = SharedProbeTest.host
    @peer = connect
    # Inherited methods are the service's own.
    @pid = ask(@peer, 'pid')
  end

  def teardown
    assert_equal @pid, ask(connect, 'pid'), 'it has ended'
    super
  end

  def connect
    @host.connect.tap { |peer| @peers << peer }
  end

  def address
    @host.address
  end
end
