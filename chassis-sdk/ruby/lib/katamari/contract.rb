# frozen_string_literal: true

# The structs of idl/chassis.thrift, idl/content.thrift and idl/katamari.thrift that a chassis needs, written by hand on
# the library's Struct. Generated code would add the whole admin interface to the module Katamari. A change of the IDL
# must be repeated here.

module Katamari
  module Contract
    T = Thrift::Types
    TEXT = { type: T::STRING }.freeze

    # Makes the class of a struct. Each field is [id, type, name, further facts about the type].
    def self.struct(*fields)
      Class.new do
        include Thrift::Struct
        include Thrift::Struct_Union
        const_set(:FIELDS, fields.to_h { |id, type, name, more| [id, { type: type, name: name, optional: true, **(more || {}) }] }.freeze)

        def struct_fields
          self.class::FIELDS
        end

        # Every field is optional.
        def validate; end

        Thrift::Struct.generate_accessors(self)
      end
    end
    private_class_method :struct

    # Field 32767 of the argument struct of every call from the mesh.
    CallContext = struct(
      [1, T::I64, 'timeLeftUs'],
      [2, T::STRING, 'serviceName'],
      [3, T::STRING, 'version'],
      [7, T::STRING, 'key'],
      [8, T::STRING, 'traceparent'],
      [9, T::STRING, 'tracestate'],
      [10, T::STRING, 'caller'],
      [11, T::I32, 'attempt'],
      [13, T::MAP, 'headers', { key: TEXT, value: TEXT }],
      [14, T::STRING, 'identityName'],
      [15, T::LIST, 'identityRoles', { element: TEXT }],
      [16, T::STRING, 'identityHow'],
      [18, T::DOUBLE, 'minCoverage']
    )

    # Field 32767 of the result struct, or of the application exception.
    ReplyContext = struct(
      [1, T::STRING, 'version'],
      [7, T::I32, 'errorCode'],
      [8, T::I64, 'retryAfterMs'],
      [9, T::I32, 'stage'],
      [10, T::BOOL, 'notRun'],
      [11, T::BOOL, 'retire'],
      [13, T::I32, 'shards'],
      [14, T::I32, 'completeShards'],
      [15, T::LIST, 'missingShards', { element: TEXT }]
    )

    # How a chassis describes itself.
    ChassisDetails = struct(
      [1, T::STRING, 'serviceName'],
      [2, T::STRING, 'version'],
      [3, T::LIST, 'roles', { element: TEXT }],
      [4, T::LIST, 'tags', { element: TEXT }],
      [5, T::MAP, 'more', { key: TEXT, value: TEXT }],
      [6, T::STRING, 'idlMain'],
      [7, T::MAP, 'idlFiles', { key: TEXT, value: TEXT }],
      [8, T::I32, 'concurrency'],
      [9, T::STRING, 'sdk'],
      [11, T::BOOL, 'holdsShards']
    )

    # The result of katamari.Chassis.describe.
    DescribeResult = struct([0, T::STRUCT, 'success', { class: ChassisDetails }])

    # Arguments and results of katamari.Content; of OpenResult one of the two.
    OpenArgs = struct([1, T::STRING, 'shard'], [2, T::STRING, 'path'])
    CloseArgs = struct([1, T::STRING, 'shard'])
    ShardFacts = struct([1, T::I64, 'entries'], [2, T::MAP, 'more', { key: TEXT, value: TEXT }])
    ShardRefused = struct([1, T::STRING, 'why'], [2, T::BOOL, 'isDamaged'])
    OpenResult = struct([0, T::STRUCT, 'success', { class: ShardFacts }], [1, T::STRUCT, 'refused', { class: ShardRefused }])
    ShardsResult = struct([0, T::LIST, 'success', { element: TEXT }])

    # The argument of katamari.Link.cancel.
    CancelArgs = struct([1, T::I32, 'sequenceId'])
  end
end
