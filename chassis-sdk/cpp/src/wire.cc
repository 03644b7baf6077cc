// See wire.h.

#include "wire.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include <arpa/inet.h>

#include <thrift/protocol/TProtocolException.h>

namespace katamari::detail {

using namespace apache::thrift::protocol;
using apache::thrift::TApplicationException;
using apache::thrift::TConfiguration;
using apache::thrift::transport::TMemoryBuffer;

namespace {

constexpr std::int16_t contextField = 32767;
/** Longer exception messages are truncated. */
constexpr std::size_t whyBytesMax = 8192;

std::int32_t readI32(const std::string& bytes, std::size_t at) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes.data() + at, sizeof word);
  return static_cast<std::int32_t>(ntohl(word));
}

std::string readText(TProtocol& in) {
  std::string text;
  in.readString(text);
  return text;
}

std::map<std::string, std::string> readTextMap(TProtocol& in) {
  TType keys;
  TType values;
  std::uint32_t count;
  in.readMapBegin(keys, values, count);
  if (count > 0 && (keys != T_STRING || values != T_STRING))
    throw TProtocolException(TProtocolException::INVALID_DATA, "expected a map of strings");
  std::map<std::string, std::string> found;
  for (std::uint32_t i = 0; i < count; i++) {
    auto key = readText(in);
    found[std::move(key)] = readText(in);
  }
  in.readMapEnd();
  return found;
}

std::vector<std::string> readTexts(TProtocol& in) {
  TType elements;
  std::uint32_t count;
  in.readListBegin(elements, count);
  if (count > 0 && elements != T_STRING)
    throw TProtocolException(TProtocolException::INVALID_DATA, "expected a list of strings");
  std::vector<std::string> found;
  for (std::uint32_t i = 0; i < count; i++) found.push_back(readText(in));
  in.readListEnd();
  return found;
}

/** Parses `index@version/shard REASON`. */
AbsentShard absentShard(const std::string& text) {
  const auto space = text.find(' ');
  if (space == std::string::npos) return {text, ""};
  return {text.substr(0, space), text.substr(space + 1)};
}

/** Truncates a text to `bytesMax` bytes, between UTF-8 characters. */
std::string cut(const std::string& text, std::size_t bytesMax) {
  if (text.size() <= bytesMax) return text;
  auto end = bytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) end--;
  return text.substr(0, end) + "...";
}

/** Returns a limit that the mesh has set. */
std::int32_t limitOf(const char* name, std::int32_t otherwise) {
  const char* const value = std::getenv(name);
  if (value == nullptr) return otherwise;
  char* end = nullptr;
  const auto number = std::strtol(value, &end, 10);
  if (*value >= '1' && *value <= '9' && *end == '\0' && number <= 1'000'000'000) return static_cast<std::int32_t>(number);
  throw std::invalid_argument(std::string(name) + " is \"" + value + "\", expected a whole number above 0");
}

}  // namespace

std::int32_t frameBytesMax() {
  static const auto found = limitOf("KATAMARI_FRAME_BYTES_MAX", 16 * 1024 * 1024);
  return found;
}

int nestingMax() {
  // A context has 3 levels.
  static const auto found = std::max(3, limitOf("KATAMARI_NESTING_MAX", 64));
  return found;
}

/** libthrift enforces the size and depth limits. */
std::shared_ptr<TConfiguration> limits() {
  static const auto bytes = frameBytesMax() + contextBytesMax;
  static const auto configuration = std::make_shared<TConfiguration>(bytes, bytes, nestingMax());
  return configuration;
}

Head readHead(const std::string& frame) {
  constexpr std::size_t wordBytes = 4;
  const auto fail = [](const char* why) { throw TProtocolException(TProtocolException::BAD_VERSION, why); };
  if (frame.size() < 3 * wordBytes) fail("a message that ends inside its head");
  const auto word = static_cast<std::uint32_t>(readI32(frame, 0));
  if ((word & 0xffff0000U) != 0x80010000U) fail("not a strict-binary Thrift message");
  const auto type = word & 0xffU;
  if (type < T_CALL || type > T_ONEWAY) fail("an unknown message type");
  const auto nameBytes = readI32(frame, wordBytes);
  if (nameBytes < 0 || nameBytes > nameBytesMax) fail("a method name that is too long");
  const auto nameEnd = 2 * wordBytes + static_cast<std::size_t>(nameBytes);
  if (frame.size() < nameEnd + wordBytes) fail("a message that ends inside its head");
  return {static_cast<TMessageType>(type), frame.substr(2 * wordBytes, nameEnd - 2 * wordBytes),
          readI32(frame, nameEnd), nameEnd + wordBytes};
}

bool hasContext(const std::string& frame, std::size_t at) {
  return frame.size() >= at + contextHeadBytes && frame[at] == T_STRUCT && frame[at + 1] == '\x7f' &&
         frame[at + 2] == '\xff';
}

CallContext readCallContext(const std::string& frame, std::size_t& at) {
  const auto start = at + contextHeadBytes;
  const auto buffer = memory(frame.data() + start, frame.size() - start);
  const auto in = binary(buffer, frame.size());
  CallContext found;
  readFields(*in, [&](std::int16_t id, TType type) {
    if (id == 1 && type == T_I64) in->readI64(found.timeLeftUs);
    else if (id == 2 && type == T_STRING) in->readString(found.service);
    else if (id == 3 && type == T_STRING) in->readString(found.version);
    else if (id == 7 && type == T_STRING) in->readString(found.key);
    else if (id == 8 && type == T_STRING) in->readString(found.traceparent);
    else if (id == 9 && type == T_STRING) in->readString(found.tracestate);
    else if (id == 10 && type == T_STRING) in->readString(found.caller);
    else if (id == 11 && type == T_I32) in->readI32(found.attempt);
    else if (id == 13 && type == T_MAP) found.headers = readTextMap(*in);
    else if (id == 14 && type == T_STRING) in->readString(found.identity.name);
    else if (id == 15 && type == T_LIST) found.identity.roles = readTexts(*in);
    else if (id == 16 && type == T_STRING) in->readString(found.identity.how);
    else return false;
    return true;
  });
  at = frame.size() - buffer->available_read();
  return found;
}

ReplyContext readReplyContext(TProtocol& in) {
  ReplyContext found;
  Coverage coverage;
  readFields(in, [&](std::int16_t id, TType type) {
    std::int32_t code = 0;
    if (id == 7 && type == T_I32) {
      in.readI32(code);
      const bool isKnown = code >= 1 && code <= static_cast<std::int32_t>(ErrorCode::incomplete);
      found.error = isKnown ? static_cast<ErrorCode>(code) : ErrorCode::internal;
    } else if (id == 8 && type == T_I64) in.readI64(found.retryAfterMs);
    else if (id == 10 && type == T_BOOL) in.readBool(found.notRun);
    else if (id == 11 && type == T_BOOL) in.readBool(found.retire);
    else if (id == 1 && type == T_STRING) in.readString(found.info.version);
    else if (id == 13 && type == T_I32) in.readI32(coverage.shards);
    else if (id == 14 && type == T_I32) in.readI32(coverage.complete);
    else if (id == 15 && type == T_LIST) {
      for (const auto& text : readTexts(in)) coverage.missing.push_back(absentShard(text));
    } else return false;
    return true;
  });
  if (coverage.shards > 0) found.info.coverage = std::move(coverage);
  return found;
}

ReplyInfo replyInfoIn(const std::string& frame) {
  const auto at = readHead(frame).bodyStart;
  if (!hasContext(frame, at)) return {};
  const auto start = at + contextHeadBytes;
  return readReplyContext(*binary(memory(frame.data() + start, frame.size() - start), frame.size())).info;
}

void writeCallContext(TProtocol& out, const CallContext& context) {
  out.writeFieldBegin("", T_STRUCT, contextField);
  Fields fields(out);
  fields.i64(1, context.timeLeftUs).text(2, context.service).text(10, context.caller);
  if (!context.version.empty()) fields.text(3, context.version);
  if (!context.traceparent.empty()) fields.text(8, context.traceparent);
  if (!context.tracestate.empty()) fields.text(9, context.tracestate);
  if (context.minCoverage) fields.real(18, *context.minCoverage);
  fields.stop();
  out.writeFieldEnd();
}

void writeReplyContext(TProtocol& out, const ReplyContext& context) {
  if (!context.error && !context.retire) return;
  out.writeFieldBegin("", T_STRUCT, contextField);
  Fields fields(out);
  if (context.error) fields.i32(7, static_cast<std::int32_t>(*context.error));
  if (context.retryAfterMs > 0) fields.i64(8, context.retryAfterMs);
  if (context.notRun) fields.flag(10, true);
  if (context.retire) fields.flag(11, true);
  fields.stop();
  out.writeFieldEnd();
}

std::shared_ptr<TMemoryBuffer> memory() { return std::make_shared<TMemoryBuffer>(limits()); }

std::shared_ptr<TMemoryBuffer> memory(const char* bytes, std::size_t size) {
  // TMemoryBuffer takes non-const bytes but does not write to them in OBSERVE mode.
  auto* const start = reinterpret_cast<std::uint8_t*>(const_cast<char*>(bytes));
  return std::make_shared<TMemoryBuffer>(start, static_cast<std::uint32_t>(size), TMemoryBuffer::OBSERVE, limits());
}

std::shared_ptr<TBinaryProtocol> binary(std::shared_ptr<TMemoryBuffer> buffer, std::size_t bytesMax) {
  const auto most = static_cast<std::int32_t>(std::max<std::size_t>(bytesMax, 1));
  return std::make_shared<TBinaryProtocol>(std::move(buffer), most, most, true, true);
}

std::string framed(TMemoryBuffer& buffer) {
  std::uint8_t* bytes = nullptr;
  std::uint32_t size = 0;
  buffer.getBuffer(&bytes, &size);
  const std::uint32_t word = htonl(size);
  std::string frame(reinterpret_cast<const char*>(&word), sizeof word);
  return frame.append(reinterpret_cast<const char*>(bytes), size);
}

std::string withReplyContext(std::string reply, const std::string& name, const ReplyContext& context) {
  const auto buffer = memory();
  writeReplyContext(*binary(buffer), context);
  const auto field = buffer->getBufferAsString();
  if (field.empty()) return reply;
  // After the length and the head: version, length of the name, name, sequence id.
  reply.insert(4 + 12 + name.size(), field);
  const std::uint32_t word = htonl(static_cast<std::uint32_t>(reply.size() - sizeof word));
  std::memcpy(reply.data(), &word, sizeof word);
  return reply;
}

std::string exceptionMessage(const std::string& name, std::int32_t seqId, const ReplyContext& context,
                             TApplicationException::TApplicationExceptionType type, const std::string& why) {
  return message(T_EXCEPTION, name, seqId, [&](TProtocol& out) {
    writeReplyContext(out, context);
    TApplicationException(type, cut(why, whyBytesMax)).write(&out);
  });
}

Fields& Fields::text(std::int16_t id, const std::string& value) {
  out_.writeFieldBegin("", T_STRING, id);
  out_.writeString(value);
  out_.writeFieldEnd();
  return *this;
}

Fields& Fields::texts(std::int16_t id, const std::vector<std::string>& values) {
  out_.writeFieldBegin("", T_LIST, id);
  out_.writeListBegin(T_STRING, static_cast<std::uint32_t>(values.size()));
  for (const auto& value : values) out_.writeString(value);
  out_.writeListEnd();
  out_.writeFieldEnd();
  return *this;
}

Fields& Fields::map(std::int16_t id, const std::map<std::string, std::string>& values) {
  out_.writeFieldBegin("", T_MAP, id);
  out_.writeMapBegin(T_STRING, T_STRING, static_cast<std::uint32_t>(values.size()));
  for (const auto& [key, value] : values) {
    out_.writeString(key);
    out_.writeString(value);
  }
  out_.writeMapEnd();
  out_.writeFieldEnd();
  return *this;
}

Fields& Fields::i32(std::int16_t id, std::int32_t value) {
  out_.writeFieldBegin("", T_I32, id);
  out_.writeI32(value);
  out_.writeFieldEnd();
  return *this;
}

Fields& Fields::i64(std::int16_t id, std::int64_t value) {
  out_.writeFieldBegin("", T_I64, id);
  out_.writeI64(value);
  out_.writeFieldEnd();
  return *this;
}

Fields& Fields::real(std::int16_t id, double value) {
  out_.writeFieldBegin("", T_DOUBLE, id);
  out_.writeDouble(value);
  out_.writeFieldEnd();
  return *this;
}

Fields& Fields::flag(std::int16_t id, bool value) {
  out_.writeFieldBegin("", T_BOOL, id);
  out_.writeBool(value);
  out_.writeFieldEnd();
  return *this;
}

}  // namespace katamari::detail
