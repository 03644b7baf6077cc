# Calls the Calculator with generated code and the official Ruby library of Thrift, without Katamari code.
#
#     thrift -r --gen rb ../calculator.thrift
#     ruby calculator.rb [PORT]
#
# Needs the Thrift compiler and its Ruby library (Debian: thrift-compiler, ruby-thrift).

$LOAD_PATH.unshift 'gen-rb'

require 'thrift'
require 'calculator'

PORT = (ARGV[0] || 9090).to_i
# Timeout to connect, and of each read. The mesh has its own timeout, 10 s by default.
TIMEOUT_S = 12

def connect
  transport = Thrift::FramedTransport.new(Thrift::Socket.new('127.0.0.1', PORT, TIMEOUT_S))
  transport.open
  yield Thrift::BinaryProtocol.new(transport)
ensure
  transport&.close
end

connect do |protocol|
  client = Tutorial::Calculator::Client.new(protocol)
  puts "2 + 40 = #{client.add(2, 40)}"
  begin
    client.calculate(1, Tutorial::Work.new(num1: 1, num2: 0, op: Tutorial::Operation::DIVIDE))
  rescue Tutorial::InvalidOperation => e # declared in the IDL
    puts "1 / 0: #{e.why}"
  end
  begin
    client.add(2**31 - 1, 1)
  rescue Thrift::ApplicationException => e # an error of the mesh, or an undeclared error of the handler
    puts "error #{e.type}: #{e.message}"
  end
end

# Select the service and its version with the multiplexed protocol.
connect do |protocol|
  client = Tutorial::Calculator::Client.new(Thrift::MultiplexedProtocol.new(protocol, 'Calculator@^1'))
  work = Tutorial::Work.new(num1: 15, num2: 10, op: Tutorial::Operation::SUBTRACT)
  puts "15 - 10 = #{client.calculate(1, work)}"
end
