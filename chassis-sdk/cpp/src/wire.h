// Encodes and decodes what a chassis and the mesh exchange in addition to the messages of users: message heads, and
// CallContext and ReplyContext, which travel in field 32767 before all other fields (idl/katamari.thrift). Written by
// hand on libthrift's protocol.

#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <thrift/TConfiguration.h>
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/transport/TBufferTransports.h>

#include "katamari/chassis.h"

namespace katamari::detail {

using apache::thrift::protocol::TMessageType;
using apache::thrift::protocol::TProtocol;

/** Bytes of a message, and nesting of its structs and containers: the limits of the mesh. They throw if invalid. */
std::int32_t frameBytesMax();
int nestingMax();
/** Bytes by which a frame may be larger: the mesh adds a context to a call. */
constexpr std::int32_t contextBytesMax = 1024 * 1024;
/** Bytes of a method name. */
constexpr std::int32_t nameBytesMax = 1024;
/** Bytes of a message head without the name, and of the head of field 32767. */
constexpr std::size_t headBytes = 12;
constexpr std::size_t contextHeadBytes = 3;

/** The fields of a CallContext that a chassis reads or writes. */
struct CallContext {
  std::int64_t timeLeftUs = 0;
  std::string service;
  std::string version;
  std::string key;
  std::string traceparent;
  std::string tracestate;
  std::string caller;
  std::int32_t attempt = 0;
  std::map<std::string, std::string> headers;
  Identity identity;
  std::optional<double> minCoverage;
};

struct ReplyContext {
  std::optional<ErrorCode> error;
  std::int64_t retryAfterMs = 0;
  bool notRun = false;
  bool retire = false;
  ReplyInfo info;
};

/** The head of a strict-binary message. */
struct Head {
  TMessageType type;
  std::string name;
  std::int32_t seqId;
  /** Offset of the first byte after the head. */
  std::size_t bodyStart;
};

/** Decodes the head. Throws TProtocolException unless the frame begins with a complete strict-binary head. */
Head readHead(const std::string& frame);

/** Whether the struct at `at` begins with field 32767. */
bool hasContext(const std::string& frame, std::size_t at);

/** Reads the context at `at` and moves `at` past it. Throws TProtocolException or TTransportException. */
CallContext readCallContext(const std::string& frame, std::size_t& at);
ReplyContext readReplyContext(TProtocol& in);
/** Returns the facts about the reply in a frame. */
ReplyInfo replyInfoIn(const std::string& frame);

void writeCallContext(TProtocol& out, const CallContext& context);
void writeReplyContext(TProtocol& out, const ReplyContext& context);

/** The configuration of all buffers, and a buffer with it. With bytes, it reads them without a copy. */
std::shared_ptr<apache::thrift::TConfiguration> limits();
std::shared_ptr<apache::thrift::transport::TMemoryBuffer> memory();
std::shared_ptr<apache::thrift::transport::TMemoryBuffer> memory(const char* bytes, std::size_t size);

/** Returns a strict binary protocol. It refuses strings and containers that declare more than `bytesMax`. */
std::shared_ptr<apache::thrift::protocol::TBinaryProtocol> binary(
    std::shared_ptr<apache::thrift::transport::TMemoryBuffer> buffer, std::size_t bytesMax = frameBytesMax());

/** Returns the bytes of a buffer as a frame, after their length. */
std::string framed(apache::thrift::transport::TMemoryBuffer& buffer);

/** Inserts the context before the body of a framed reply. Returns the reply unchanged if the context is empty. */
std::string withReplyContext(std::string reply, const std::string& name, const ReplyContext& context);

/** Encodes a framed message. `write` writes its body: all fields and the stop byte. */
template <class Write>
std::string message(TMessageType type, const std::string& name, std::int32_t seqId, Write write) {
  const auto buffer = memory();
  const auto out = binary(buffer);
  out->writeMessageBegin(name, type, seqId);
  write(*out);
  out->writeMessageEnd();
  return framed(*buffer);
}

/** Encodes a framed TApplicationException. */
std::string exceptionMessage(const std::string& name, std::int32_t seqId, const ReplyContext& context,
                             apache::thrift::TApplicationException::TApplicationExceptionType type,
                             const std::string& why);

/** Reads the fields of a struct. `onField` returns false for a field that it did not read; that field is skipped. */
template <class OnField>
void readFields(TProtocol& in, OnField onField) {
  std::string name;
  in.readStructBegin(name);
  for (;;) {
    apache::thrift::protocol::TType type;
    std::int16_t id;
    in.readFieldBegin(name, type, id);
    if (type == apache::thrift::protocol::T_STOP) break;
    if (!onField(id, type)) in.skip(type);
    in.readFieldEnd();
  }
  in.readStructEnd();
}

/** Writes the fields of a struct, one after the other. */
class Fields {
 public:
  explicit Fields(TProtocol& out) : out_(out) {}
  Fields& text(std::int16_t id, const std::string& value);
  Fields& texts(std::int16_t id, const std::vector<std::string>& values);
  Fields& map(std::int16_t id, const std::map<std::string, std::string>& values);
  Fields& i32(std::int16_t id, std::int32_t value);
  Fields& i64(std::int16_t id, std::int64_t value);
  Fields& real(std::int16_t id, double value);
  Fields& flag(std::int16_t id, bool value);
  void stop() { out_.writeFieldStop(); }

 private:
  TProtocol& out_;
};

}  // namespace katamari::detail
