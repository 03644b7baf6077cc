# frozen_string_literal: true

# Katamari's kit for Ruby: `Katamari.serve` makes a handler object one process of the mesh, `Katamari.context` tells
# what is known of the call that this thread works on. Stands on the official thrift gem and on nothing else.

require 'logger'
require 'thrift'
require 'katamari/version'
require 'katamari/error'
require 'katamari/contract'
require 'katamari/wire'
require 'katamari/frame_socket'
require 'katamari/output'
require 'katamari/idl_text'
require 'katamari/mesh_client'
require 'katamari/context'
require 'katamari/service'
require 'katamari/connection'
require 'katamari/server'
require 'katamari/chassis'

module Katamari
  class << self
    # Serves until the chassis is drained (SIGTERM, the mesh, Context#retire_after_reply), then returns; the script
    # should end then.
    #
    #   Katamari.serve(Calculator::Processor, Handler.new, idl: 'calculator.thrift', service: 'Calculator', version: '1.0.0')
    #
    # processor - the Processor class that `thrift --gen rb` wrote for the service. handler - an object with a method
    # for each one of the service. With concurrency above 1 it is called by several threads. idl - path of the IDL
    # file; what it includes is found beside it. service - name of the service in that file. version - SemVer, such as
    # 1.2.0. tags - calls can prefer pools that have them. roles - a wall: only calls that ask for exactly these get
    # here. more - any other details, a Hash of Strings. concurrency - calls that this process works on at once. With
    # 1, the default, handlers run in the thread that called `serve`.
    #
    # Raises ArgumentError when these do not fit together.
    def serve(processor, handler, idl:, service:, version:, tags: [], roles: [], more: {}, concurrency: 1)
      details = Contract::ChassisDetails.new(
        serviceName: service, version: version, tags: tags.to_a, roles: roles.to_a, more: more.to_h { |key, value| [key.to_s, value.to_s] },
        concurrency: concurrency, sdk: "ruby #{RUBY_VERSION}, katamari #{VERSION}"
      )
      Chassis.new(processor, handler, details, IdlText.read(idl, service)).run
    end

    # The Context of the call that this thread works on; outside of one, a context without a deadline whose strings
    # are empty.
    def context
      Thread.current.thread_variable_get(:katamari_context) || Context.outside
    end

    # A Logger on standard error that names this copy.
    def logger
      @logger ||= Logger.new($stderr, progname: resource)
    end

    attr_writer :logger

    # The name of this copy in its mesh, such as Shop@1.0.0/2.
    def resource
      @resource ||= ENV.fetch('KATAMARI_RESOURCE', File.basename($PROGRAM_NAME))
    end

    # The mesh that this process was started by.
    def mesh
      @mesh ||= MeshClient.new(ENV.fetch('KATAMARI_MESH', ''), "chassis #{resource}")
    end

    attr_writer :resource
  end
end
