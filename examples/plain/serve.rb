# The same server in Ruby, on a Unix socket. It also serves one connection at a time.

$LOAD_PATH << 'gen-rb' # from: thrift --gen rb words.thrift

require 'thrift'
require 'words'

class Handler
  def tally(text)
    words = text.downcase.split
    raise NoWords.new('the text is empty') if words.empty?

    words.tally
  end

  def pid
    Process.pid
  end

  def ready; end
end

Thrift::SimpleServer.new(
  Words::Processor.new(Handler.new),
  Thrift::UNIXServerSocket.new(ENV.fetch('WORDS_SOCKET')),
  Thrift::FramedTransportFactory.new,
  Thrift::BinaryProtocolFactory.new
).serve
