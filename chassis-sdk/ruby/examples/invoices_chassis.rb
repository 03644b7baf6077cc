# frozen_string_literal: true

# Invoices, a chassis that calls another service of the mesh. It handles four calls at a time, because its handlers
# mostly wait.

$LOAD_PATH.unshift(File.join(__dir__, 'gen-rb'))
# Not needed if the gem is installed.
$LOAD_PATH.unshift(File.expand_path('../lib', __dir__))

require 'katamari'
require 'calendar'
require 'invoices'

class InvoicesHandler
  def due(invoice)
    # The call ends within the remaining time of this call, at most two seconds. An exception that both methods
    # declare passes through to the caller.
    Katamari.context.client(Office::Calendar::Client, timeout: 2).workdaysAfter(invoice.written, invoice.terms)
  end

  def paid(number)
    Katamari.context.log.info("#{number} is paid, says #{Katamari.context.caller}")
  end
end

Katamari.serve(
  Office::Invoices::Processor, InvoicesHandler.new,
  idl: File.join(__dir__, 'invoices.thrift'), service: 'Invoices', version: '1.0.0', concurrency: 4
)
