# frozen_string_literal: true

# The Probe as a chassis. Takes what `Katamari.serve` is to be told from PROBE_OPTIONS, as JSON; the generated code is
# on the load path.

require 'json'
require 'katamari'
require 'probe'

class ProbeHandler
  WAIT_SECONDS_MAX = 20

  def initialize
    @inside = 0
    @lock = Mutex.new
    @changed = ConditionVariable.new
  end

  def pid
    Process.pid
  end

  def echo(value)
    encodings = [value.text, value.bytes, value.texts[0], value.blobs[0]].compact.map(&:encoding)
    raise "encodings #{encodings}" unless encodings == [Encoding::UTF_8, Encoding::BINARY] * (encodings.size / 2)

    value
  end

  def context
    # In a fiber: an Enumerator asked for its next value runs in one.
    context = Enumerator.new { |all| all << Katamari.context }.next
    names = %i[method_name caller traceparent tracestate key attempt]
    headers = context.headers.to_h { |name, value| ["header #{name}", value] }
    names.to_h { |name| [name.to_s, context.public_send(name).to_s] }
         .merge(headers, 'time_left' => context.time_left.to_s,
                       'thread' => (Thread.current == Thread.main).to_s, 'stdin' => ENV['KATAMARI_LIFELINE'] ? $stdin.read : 'nobody asks')
  end

  def nothing; end

  def declared(why)
    raise Probe::Refused.new(why: why, level: Probe::Level::HIGH)
  end

  def undeclared(kind)
    case kind
    when 'message' then raise 'it is broken'
    when 'empty' then raise ArgumentError, ''
    when 'bytes' then raise "bytes \xff".b
    when 'name' then undeclared_name
    when 'stack' then undeclared('stack')
    when 'script' then raise NotImplementedError, 'not yet'
    when 'mesh' then raise Katamari::Error.new(:no_pool, 'nobody there')
    when 'foreign' then raise Thrift::ProtocolException.new(Thrift::ProtocolException::INVALID_DATA, 'read elsewhere')
    end
  end

  def wrong(kind)
    { 'nil' => nil, 'number' => 7, 'bytes' => "\xff".b, 'broken' => +"\xff", 'latin' => 'é'.encode(Encoding::ISO_8859_1) }[kind]
  end

  def small(number)
    number
  end

  def deep(levels)
    (1...levels).inject(Probe::Tree.new(value: 0)) { |tree, value| Probe::Tree.new(value: value, children: [tree]) }
  end

  def large(bytes)
    'x' * bytes
  end

  def hold(name)
    File.write("#{name}.in", '')
    wait_until { File.exist?("#{name}.out") }
    name
  end

  def abandoned(name)
    File.write("#{name}.in", '')
    wait_until { Katamari.context.abandoned? }
    File.write("#{name}.abandoned", '')
  end

  def meet(calls)
    @lock.synchronize do
      @inside += 1
      @changed.broadcast
      @changed.wait(@lock, WAIT_SECONDS_MAX) until @inside >= calls
    end
    @inside
  end

  def note(file, text)
    File.write(file, "#{text}\n", mode: 'a')
    Katamari.context.log.info("noted #{text}")
  end

  def badNote # rubocop:disable Naming/MethodName
    raise 'no note'
  end

  def retire
    Katamari.context.retire_after_reply
    Process.pid
  end

  def leave(code)
    exit(code)
  end

  def forward(service, version, what, timeout_ms)
    client = Katamari.context.client(Probe::Probe::Client, service: service, version: version, timeout: timeout_ms / 1000.0)
    case what
    when 'context' then client.context
    when 'declared' then client.declared('far away')
    when 'undeclared' then client.undeclared('message')
    when 'hold' then client.hold(service)
    when 'note' then client.note(version, 'from afar')
    end || {}
  rescue Katamari::Error => e
    { 'code' => e.code.to_s, 'message' => e.message, 'not_run' => e.not_run?.to_s }
  rescue Thrift::ApplicationException => e
    { 'type' => e.type.to_s, 'message' => e.message }
  end

  private

  def wait_until
    deadline = Time.now + WAIT_SECONDS_MAX
    sleep(0.005) until yield || Time.now > deadline
  end
end

puts 'a line before the start'
options = JSON.parse(ENV.fetch('PROBE_OPTIONS', '{}'), symbolize_names: true)
Katamari.serve(
  Probe::Probe::Processor, ProbeHandler.new,
  **{ idl: File.join(__dir__, 'probe.thrift'), service: 'Probe', version: '1.0.0' }.merge(options)
)
