# frozen_string_literal: true

# Invoices: a handler that calls another service of the mesh, and works on several calls at once because it mostly
# waits.

$LOAD_PATH.unshift(File.join(__dir__, 'gen-rb'))
# Not needed where the gem is installed.
$LOAD_PATH.unshift(File.expand_path('../lib', __dir__))

require 'katamari'
require 'calendar'
require 'invoices'

class InvoicesHandler
  def due(invoice)
    # Ends in the time that is left to this call, two seconds at most. What Calendar declares and this method too goes
    # on to the caller.
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
