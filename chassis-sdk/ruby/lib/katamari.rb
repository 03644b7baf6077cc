# frozen_string_literal: true

# Katamari for Ruby. `Katamari.serve` runs a handler object as one process of the mesh. `Katamari.context` returns the
# context of the call that this thread works on. The only dependency is the official thrift gem.

require 'logger'
require 'thrift'
require 'katamari/version'
require 'katamari/error'
require 'katamari/contract'
require 'katamari/wire'
require 'katamari/frame_socket'
require 'katamari/output'
require 'katamari/idl_text'
require 'katamari/reply_info'
require 'katamari/mesh_client'
require 'katamari/context'
require 'katamari/content'
require 'katamari/service'
require 'katamari/content_control'
require 'katamari/connection'
require 'katamari/server'
require 'katamari/chassis'

module Katamari
  class << self
    # Serves calls until the chassis has drained (SIGTERM, the mesh, Context#retire_after_reply), then returns. The
    # script should end then.
    #
    #   Katamari.serve(Calculator::Processor, Handler.new, idl: 'calculator.thrift', service: 'Calculator', version: '1.0.0')
    #
    # processor   - the Processor class that `thrift --gen rb` generated for the service.
    # handler     - an object with a method for each method of the service.
    # idl         - path of the IDL file; its includes are found beside it.
    # includes    - folders for included files that are not beside the including file.
    # service     - name of the service in that file.
    # version     - SemVer, such as 1.2.0. Copies with the same version must have the same interface.
    # tags        - calls can prefer pools with these tags.
    # roles       - only calls that ask for exactly these roles reach this chassis.
    # more        - other details that calls can ask for, a Hash of Strings.
    # concurrency - number of calls that this process handles at a time. With 1, the default, handlers run in the
    #               thread that called `serve`; with more, several threads call the handler.
    # content     - a Content, which makes the chassis a content server: the mesh has it open shards of indices.
    #
    # Raises ArgumentError if the arguments do not match each other.
    def serve(processor, handler, idl:, service:, version:, includes: [], tags: [], roles: [], more: {}, concurrency: 1, content: nil)
      details = Contract::ChassisDetails.new(
        serviceName: service, version: version, tags: tags.to_a, roles: roles.to_a, more: more.to_h { |key, value| [key.to_s, value.to_s] },
        concurrency: concurrency, sdk: "ruby #{RUBY_VERSION}, katamari #{VERSION}",
        holdsShards: content.nil? ? nil : true
      )
      prepare(idl) { Chassis.new(processor, handler, details, IdlText.read(idl, service, includes), content) }.run
    end

    # Returns the Context of the call that this thread works on. Outside of a call, it returns a context with empty
    # strings and no deadline.
    def context
      Thread.current.thread_variable_get(:katamari_context) || Context.outside
    end

    # Returns a Logger that writes to standard error, with the name of this copy.
    def logger
      @logger ||= Logger.new($stderr, progname: resource)
    end

    # In a process that a mesh has started, arguments that do not match print one line and exit with status 78
    # (EX_CONFIG), for which the mesh starts no other copy until a file has changed.
    def prepare(idl)
      yield
    rescue ArgumentError, Errno::ENOENT => error
      raise unless ENV['KATAMARI_LIFELINE'] == 'stdin'

      warn "This chassis cannot start with #{File.expand_path(idl.to_s)}: #{error.message}"
      exit 78
    end
    private :prepare

    attr_writer :logger

    # The name of this copy in its mesh, such as Shop@1.0.0/2.
    def resource
      @resource ||= ENV.fetch('KATAMARI_RESOURCE', File.basename($PROGRAM_NAME))
    end

    # Returns the client of the mesh that started this process.
    def mesh
      @mesh ||= MeshClient.new(ENV.fetch('KATAMARI_MESH', ''), "chassis #{resource}")
    end

    attr_writer :resource
  end
end
